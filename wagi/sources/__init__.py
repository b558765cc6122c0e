"""Fetch modules by reference: from files, OCI registries, bindles and the web.

See docs/contract.md, "Route map".
"""
