"""The variables that Spin adds to those of CGI, for the routes of a spin.toml. Pure."""

from __future__ import annotations

from dataclasses import dataclass

CLIENT_ADDRESS = "X_CLIENT_ADDR"
_WILDCARD = "/..."


@dataclass(frozen=True, slots=True)
class SpinRoute:
    """The route of a component of Spin, whose guests get the variables that Spin adds.

    Attributes:
        base: The path that the application prepends to all of its routes.
        route: The route as the application has it, without the base.
        is_cgi: Whether the executor is ``wagi``, for CGI programs, and not ``http``.
    """

    base: str
    route: str
    is_cgi: bool = True

    @property
    def variables(self) -> dict[str, str]:
        """The variables that do not depend on the request."""
        return {
            "X_BASE_PATH": self.base,
            "X_RAW_COMPONENT_ROUTE": self.route,
            "X_COMPONENT_ROUTE": self.route.removesuffix(_WILDCARD),
        }


def client_address(address: str, port: str) -> str:
    """Return the value of X_CLIENT_ADDR.

    Args:
        address: The IP address of the client, empty if unknown.
        port: The port of the client, empty if unknown. The value then has port 0, because
            programs expect one.
    """
    if not address:
        return ""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port or 0}"
