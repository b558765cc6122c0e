"""Observability: the access log, the logs of modules and the server's own log."""
