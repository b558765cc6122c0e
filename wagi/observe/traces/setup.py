"""Turns traces on at the start of a service, or explains why they are off.

Whatever is wrong with traces, the service starts: the variables may be set for every container of a
cluster, and handlers are more important than spans.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from wagi.observe.text import one_line
from wagi.observe.traces.settings import TracesError, read_settings

if TYPE_CHECKING:
    from wagi.observe.traces.exporter import TraceExporter

OpenTraces = Callable[[], "TraceExporter | None"]
"""Starts to export the spans of this process. Returns None, and logs why, if that fails."""
_log = logging.getLogger("wagi")


def set_up_traces() -> OpenTraces | None:
    """Read the ``OTEL_*`` variables, and log what is wrong with them.

    It is called before workers are forked, so that they share what is imported here.

    Returns:
        What each worker calls; None if traces are off.
    """
    try:
        settings = read_settings(os.environ)
    except TracesError as error:
        _log.warning("traces are off: %s", error)
        return None
    if settings is None:
        return None
    try:
        from wagi.observe.traces.exporter import OutageReport, TraceExporter, check_variables
    except ImportError as error:
        _log.warning(
            "traces are off: OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s is not installed:"
            " pip install 'wagi[otel]'",
            error.name or "opentelemetry",
        )
        return None
    try:
        warnings = [*settings.warnings, *check_variables()]
    except Exception as error:  # whatever the SDK raises for a variable must not end the service
        _log.warning("traces are off: %s", one_line(str(error)))
        return None
    for warning in warnings:
        _log.warning("traces: %s", one_line(warning))
    _log.info("exporting traces to %s", settings.endpoint)
    report = OutageReport()

    def open_traces() -> TraceExporter | None:
        try:
            return TraceExporter(settings, report)
        except Exception as error:
            _log.warning("traces are off: %s", one_line(str(error)))
            return None

    return open_traces
