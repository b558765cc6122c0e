"""Builds the environment of a guest: in the compiled core if it is simple, otherwise in Python."""

from __future__ import annotations

from wagi.cgi.environment import RequestHead, RouteVariables
from wagi.guest.core import module as core


def build_environment(variables: RouteVariables, head: RequestHead, raw_path_info: str) -> bytes:
    """Return all variables of a request, as ``RouteVariables.environment`` does.

    The compiled core only knows the variables that every route has, and headers in ASCII.

    Raises:
        BadRequest: A value has a NUL byte, or the decoded path is not UTF-8.
    """
    if core is not None and not variables.header_like and not variables.is_spin:
        built: bytes | None = core.environment(
            variables.fixed, head, raw_path_info, variables.pass_authorization
        )
        if built is not None:
            return built
    return variables.environment(head, raw_path_info)
