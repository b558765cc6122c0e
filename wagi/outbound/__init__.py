"""Outbound HTTP: what guests may ask of other servers, and how it is asked."""
