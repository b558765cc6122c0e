"""The WebAssembly gateway: CGI for WASI modules."""

__version__ = "0.1.0"
