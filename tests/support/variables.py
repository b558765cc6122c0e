"""A request head, and the variables that are made from one."""

from __future__ import annotations

from wagi.cgi.environment import RequestHead

HEAD = RequestHead(
    method="GET",
    path="/r",
    query=None,
    protocol="HTTP/1.1",
    headers=(),
    content_length=0,
    scheme="http",
    server_name="example.com",
    server_port="80",
    remote_address="192.0.2.1",
    remote_port="51234",
    server_address="192.0.2.2",
)
DROPPED = ("proxy", "connection", "transfer-encoding", "proxy-authorization")
"""Request headers that never become variables."""


def parsed(variables: bytes) -> dict[str, str]:
    """Return the variables of a block; each must be set once."""
    found: dict[str, str] = {}
    for line in variables.split(b"\0")[:-1]:
        name, equals, value = line.decode().partition("=")
        assert equals
        assert name not in found, f"{name} is set twice"
        found[name] = value
    return found
