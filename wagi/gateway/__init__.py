"""The gateway: runs a guest for each request. ``cycle`` implements the request cycle."""
