"""From module references to modules: files, registries, bindles, downloads.

See docs/contract.md, "Route map".
"""
