"""The route map of an invoice."""

from __future__ import annotations

from typing import Any

import pytest

from wagi.errors import ConfigurationError
from wagi.routemap.bindle import bindle_route_map
from wagi.routemap.entries import RouteMap
from wagi.sources.invoices import Invoice

DIGEST = "0" * 64


def parcel(**features: str) -> dict[str, Any]:
    return {
        "label": {
            "sha256": DIGEST,
            "size": 1,
            "name": "hello.wasm",
            "mediaType": "application/wasm",
            "feature": {"wagi": features},
        }
    }


def route_map(*parcels: dict[str, Any]) -> RouteMap:
    invoice = Invoice.model_validate(
        {"bindle": {"name": "site", "version": "1.0.0"}, "parcel": parcels}
    )
    return bindle_route_map(invoice, "http://localhost/v1")


def problems(*parcels: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        route_map(*parcels)
    assert caught.value.exit_status == 1  # the user did not write the invoice
    return [str(problem) for problem in caught.value.problems]


def test_features_are_keys() -> None:
    features = {
        "route": "/a/...",
        "entrypoint": "run",
        "argv": "x ${ARGS}",
        "allowed_hosts": "https://a.example, b.example",
        "pass_authorization": "true",
    }
    (entry,) = route_map(parcel(**features), parcel(unused="x")).modules
    assert (entry.route, entry.entrypoint, entry.argv) == ("/a/...", "run", "x ${ARGS}")
    assert entry.allowed_hosts == ["https://a.example", "b.example"]
    assert entry.pass_authorization
    assert entry.module == f"bindle:site/1.0.0#{DIGEST}"
    assert entry.bindle_server == "http://localhost/v1"


def test_locations() -> None:
    found = route_map(parcel(route="/"))
    name = "bindle:site/1.0.0, parcel hello.wasm"
    (entry,) = found.modules
    assert str(entry.location("route")) == name
    problem = entry.location("module").problem("oops")
    assert (str(problem), problem.exit_status) == (f"{name}: oops", 1)


def test_a_feature_that_is_not_valid() -> None:
    assert problems(parcel(route="/", pass_authorization="yes")) == [
        "bindle:site/1.0.0, parcel hello.wasm: pass_authorization: expected true or false,"
        " found 'yes'"
    ]


def test_a_bindle_without_handlers() -> None:
    (problem,) = problems(parcel(entrypoint="run"))
    assert problem.startswith("bindle:site/1.0.0: no parcel is a handler: expected application/")
