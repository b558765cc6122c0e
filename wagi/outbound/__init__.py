"""Outbound HTTP requests of guests: the client and the allowlist."""
