"""The variables that Spin adds, and that only routes of a spin.toml have."""

from __future__ import annotations

import pytest

from tests.support.variables import HEAD, parsed
from wagi.cgi.environment import RouteVariables
from wagi.cgi.spin import SpinRoute, client_address

pytestmark = pytest.mark.fast

NAMES = {"X_BASE_PATH", "X_COMPONENT_ROUTE", "X_RAW_COMPONENT_ROUTE", "X_CLIENT_ADDR"}


def test_a_route_of_spin_has_four_more_variables() -> None:
    spin_route = SpinRoute("/base", "/r/...")
    route = RouteVariables.prepare("/base/r", "/base/r/...", {}, spin_route=spin_route)
    found = parsed(route.environment(HEAD, "/rest"))
    assert {name: found[name] for name in NAMES} == {
        "X_BASE_PATH": "/base",
        "X_RAW_COMPONENT_ROUTE": "/r/...",
        "X_COMPONENT_ROUTE": "/r",
        "X_CLIENT_ADDR": "192.0.2.1:51234",
    }
    other = parsed(RouteVariables.prepare("/base/r", "/base/r/...", {}).environment(HEAD, "/rest"))
    assert found.keys() - other.keys() == NAMES
    assert {name: found[name] for name in other} == other


def test_the_operator_cannot_override_them() -> None:
    configured = dict.fromkeys(NAMES, "forged")
    route = RouteVariables.prepare("/r", "/r", configured, spin_route=SpinRoute("/", "/r"))
    found = parsed(route.environment(HEAD, ""))
    assert "forged" not in found.values()


def test_they_are_ordinary_variables_elsewhere() -> None:
    configured = dict.fromkeys(NAMES, "mine")
    found = parsed(RouteVariables.prepare("/r", "/r", configured).environment(HEAD, ""))
    assert {found[name] for name in NAMES} == {"mine"}


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("192.0.2.1", "51234", "192.0.2.1:51234"),
        ("2001:db8::1", "51234", "[2001:db8::1]:51234"),
        ("192.0.2.1", "", "192.0.2.1:0"),
        ("", "", ""),
    ],
)
def test_the_address_of_the_client(address: str, port: str, expected: str) -> None:
    """Behind a proxy the port is unknown, on a unix socket the address, too."""
    assert client_address(address, port) == expected
