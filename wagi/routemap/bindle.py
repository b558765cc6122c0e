"""The route map of a bindle: its modules with the feature ``wagi.route``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wagi.config.validation import explain_validation_error
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.location import Location
from wagi.sources.invoices import Invoice, Parcel

_FEATURES = ("route", "entrypoint", "argv")
_BOOLEANS = {"true": True, "false": False}  # features are strings


def bindle_route_map(invoice: Invoice, server: str) -> RouteMap:
    """Make the route map of an invoice.

    Args:
        invoice: The invoice of the bindle.
        server: URL or directory of the Bindle server.

    Raises:
        ConfigurationError: With every handler that is not valid, or if there is no handler.
    """
    bindle = f"bindle:{invoice.bindle.name}/{invoice.bindle.version}"
    # The operator has usually not written the invoice: exit status 1, not 2.
    whole = Location(name=bindle, exit_status=1)
    handlers = [item for item in invoice.parcel if item.is_module and item.label.wagi.get("route")]
    entries: list[ModuleEntry] = []
    problems: list[Problem] = []
    for handler in handlers:
        name = f"{bindle}, parcel {handler.label.name or handler.label.sha256}"
        location = Location(name=name, exit_status=1)
        try:
            entries.append(_entry(handler, bindle, server).located(location))
        except ValidationError as error:
            problems += [
                location.problem(mistake.message)
                for mistake in explain_validation_error(error, ModuleEntry)
            ]
    if not handlers:
        problems.append(
            whole.problem(
                "no parcel is a handler: expected application/wasm, in no group, with"
                " label.feature.wagi.route"
            )
        )
    if problems:
        raise ConfigurationError(problems)
    return RouteMap(entries, Path.cwd(), whole)


def _entry(handler: Parcel, bindle: str, server: str) -> ModuleEntry:
    features = handler.label.wagi
    hosts = [host.strip() for host in features.get("allowed_hosts", "").split(",")]
    pass_authorization: Any = features.get("pass_authorization", "false")
    return ModuleEntry(
        module=f"{bindle}#{handler.label.sha256}",
        bindle_server=server,
        allowed_hosts=[host for host in hosts if host],
        pass_authorization=_BOOLEANS.get(pass_authorization, pass_authorization),
        **{key: features[key] for key in _FEATURES if key in features},
    )
