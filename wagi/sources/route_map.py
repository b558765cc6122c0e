"""The route map that a bindle is: its modules with the feature ``wagi.route``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wagi.config.entries import ModuleEntry, RouteMap
from wagi.errors import ConfigurationError, Problem
from wagi.sources.cache import ModuleCache
from wagi.sources.fetch import fetch_invoice
from wagi.sources.invoices import Invoice, Parcel
from wagi.sources.modules import FetchOptions, Report

_FEATURES = ("route", "entrypoint", "argv")
_BOOLEANS = {"true": True, "false": False}  # features are texts


def fetch_bindle_routes(
    name: str, cache: ModuleCache, options: FetchOptions, report: Report
) -> RouteMap:
    """Fetch the route map that is the bindle NAME/VERSION.

    Raises: SourceError, FetchError, ConfigurationError with every handler that is not valid.
    """
    invoice, warning = fetch_invoice(name, cache, options, report)
    return bindle_routes(invoice, options.bindle_server, warning)


def bindle_routes(invoice: Invoice, server: str, warning: str) -> RouteMap:
    """Make a route map of an invoice.

    Parameters: ``server`` URL or directory of the bindle; ``warning`` about how it was fetched.
    Raises: ConfigurationError with every handler that is not valid, and if there is none.
    """
    bindle = f"bindle:{invoice.bindle.name}/{invoice.bindle.version}"
    handlers = [item for item in invoice.parcel if item.is_module and item.label.wagi.get("route")]
    entries: list[ModuleEntry] = []
    problems: list[Problem] = []
    for handler in handlers:
        try:
            entries.append(_entry(handler, bindle, server))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{_name(bindle, handler)}: {first['loc'][0]}: {first['msg']}"
            problems.append(Problem(what, exit_status=1))
    if not handlers:
        problems.append(
            Problem(
                f"{bindle}: no parcel is a handler: expected application/wasm, in no group, with"
                " label.feature.wagi.route",
                exit_status=1,
            )
        )
    if problems:
        raise ConfigurationError(problems)

    def place(message: str, index: int | None, _key: str, _exit_status: int) -> Problem:
        name = bindle if index is None else _name(bindle, handlers[index])
        # Whoever names a bindle has not written its invoice.
        return Problem(f"{name}: {message}", exit_status=1)

    warnings = (Problem(f"{bindle}: {warning}"),) if warning else ()
    return RouteMap(
        entries,
        Path.cwd(),
        place,
        lambda index: f"the parcel {handlers[index].label.name!r}",
        warnings=warnings,
    )


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


def _name(bindle: str, handler: Parcel) -> str:
    return f"{bindle}, parcel {handler.label.name or handler.label.sha256}"
