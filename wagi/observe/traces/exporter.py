"""Sends the spans of a worker to an OTLP endpoint, in the background.

Requests do not depend on the endpoint: spans are queued (``OTEL_BSP_MAX_QUEUE_SIZE``) and dropped
if it does not accept them. The log reports that once, and when it works again.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from wagi import __version__
from wagi.observe.text import one_line
from wagi.observe.traces.settings import TraceSettings
from wagi.observe.traces.tracer import RequestTracer

_REASON_LENGTH = 200  # characters
_DROP_INTERVAL_S = 60.0  # between reports of dropped spans
_UNKNOWN_SERVICE = "unknown_service"  # with which the SDK's default begins
_INVALID_HEADERS = (
    "OTEL_EXPORTER_OTLP_HEADERS: expected pairs such as name=value, separated by commas and"
    " percent-encoded"
)
_log = logging.getLogger("wagi")


class OutageReport:
    """Which worker has reported that the endpoint does not accept spans: at most one.

    All workers share it: made before they are forked, it is a pipe with one byte, which the worker
    that reports takes, and puts back when the endpoint works again.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.give_back()

    def take(self) -> bool:
        """Return whether this worker is the one that reports."""
        try:
            return bool(os.read(self._reader, 1))
        except BlockingIOError:
            return False

    def give_back(self) -> None:
        """Let any worker report the next outage."""
        os.write(self._writer, b"x")


class TraceExporter:
    """Exports the spans of one process.

    Args:
        settings: Where they go.
        report: Which process reports outages.

    Attributes:
        tracer: Makes spans.

    Raises:
        ValueError: A variable of the SDK has an invalid value.
    """

    def __init__(self, settings: TraceSettings, report: OutageReport) -> None:
        messages = _capture_messages()
        self._exporter = _Exporter(settings, report, messages)
        self._provider = _make_provider()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer = RequestTracer(
            self._provider.get_tracer("wagi", __version__), settings.propagates
        )
        self._closing: threading.Thread | None = None

    def begin_close(self) -> None:
        """Begin to export what is queued; ``is_closed`` is True when that is done.

        The SDK offers no limit of the time that this takes, so it is done in a thread, which does
        not prevent the process from exiting.
        """
        self._closing = threading.Thread(
            target=self._provider.shutdown, name="wagi-traces", daemon=True
        )
        self._closing.start()

    @property
    def is_closed(self) -> bool:
        """Whether everything has been exported, or cannot be."""
        is_running = self._closing is not None and self._closing.is_alive()
        return not is_running or self._exporter.is_failing

    def release(self) -> None:
        """Let another process report an outage from now on."""
        self._exporter.release()


def check_variables() -> list[str]:
    """Let the SDK read its variables, without sending anything.

    Returns:
        Its warnings about invalid ones, for which it uses the defaults.

    Raises:
        Exception: It cannot be used with them.
    """
    messages = _capture_messages()
    _make_provider()
    # This process will fork: the thread has to end.
    BatchSpanProcessor(OTLPSpanExporter()).shutdown()  # type: ignore[no-untyped-call]
    return messages.take()


def _make_provider() -> TracerProvider:
    resource = Resource.create()
    name = str(resource.attributes.get(SERVICE_NAME, _UNKNOWN_SERVICE))
    own = {SERVICE_NAME: "wagi"} if name.startswith(_UNKNOWN_SERVICE) else {}
    versions = Resource({SERVICE_VERSION: __version__})
    resource = versions.merge(resource).merge(Resource(own))
    return TracerProvider(resource=resource, shutdown_on_exit=False)


class _Exporter(SpanExporter):
    """The SDK's exporter, and the report of its failures."""

    def __init__(self, settings: TraceSettings, report: OutageReport, messages: _Messages) -> None:
        self._exporter = OTLPSpanExporter()
        self._endpoint = settings.endpoint
        self._report = report
        self._messages = messages
        self._lost = 0
        self._reports = False  # whether this process has reported the current outage
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._messages.take()
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._succeed()
        else:
            self._fail(len(spans), self._messages.take())
        return result

    def _succeed(self) -> None:
        self.is_failing = self._messages.is_muted = False
        if self._reports:
            _log.info("traces are exported again; this worker lost %d spans", self._lost)
            self.release()
        self._lost = 0

    def _fail(self, count: int, messages: Sequence[str]) -> None:
        self._lost += count
        if self.is_failing:
            return
        self.is_failing = self._messages.is_muted = True
        if self._report.take():
            self._reports = True
            why = describe_failure(messages[0] if messages else "")
            _log.warning(
                "cannot export traces to %s: %s; spans are lost until it works, requests are not"
                " affected",
                self._endpoint,
                why,
            )

    def release(self) -> None:
        if self._reports:
            self._reports = False
            self._report.give_back()

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def describe_failure(message: str) -> str:
    """Shorten the message of the SDK's exporter about a failure to its cause, without secrets."""
    message = _hide_secrets(message)
    for pattern in (
        r"\[Errno -?\d+\] ([^\"')]+)",
        r"(timed out)",
        r"\(Caused by (.+)\)",
        r"code: (\d+, reason: .*)",
        r"Transient error (.*) encountered",
    ):
        if found := re.search(pattern, message):
            return one_line(found[1].replace(", reason:", ""))[:_REASON_LENGTH]
    return one_line(message)[:_REASON_LENGTH] or "unknown error"


def _hide_secrets(message: str) -> str:
    """Remove header fields and what a URL may contain from a message of the SDK."""
    if "header" in message.lower():  # it may quote the value
        return _INVALID_HEADERS
    return re.sub(r"//[^/\s'\"]*@", "//", re.sub(r" with url: \S+", "", message))


class _Messages(logging.Handler):
    """Keeps what OpenTelemetry logs from the log.

    It logs each failed attempt, and each invalid header of a client.

    Attributes:
        is_muted: Whether dropped spans are not reported, because an outage is.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []
        self._dropped_at = -_DROP_INTERVAL_S
        self.is_muted = False

    def emit(self, record: logging.LogRecord) -> None:
        message = _hide_secrets(record.getMessage())
        if message.startswith("Queue full"):
            self._report_drops()
        elif not record.name.startswith(("opentelemetry.trace", "opentelemetry.attributes")):
            self._messages = [*self._messages[:9], message]

    def take(self) -> list[str]:
        """The messages since the last call, except those about single requests."""
        messages, self._messages = self._messages, []
        return messages

    def _report_drops(self) -> None:
        now = time.monotonic()
        if not self.is_muted and now - self._dropped_at >= _DROP_INTERVAL_S:
            self._dropped_at = now
            _log.warning("spans are dropped: the queue is full (OTEL_BSP_MAX_QUEUE_SIZE)")


def _capture_messages() -> _Messages:
    """Send what OpenTelemetry and its HTTP client log to a new collection."""
    messages = _Messages()
    for name in ("opentelemetry", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [messages], False
    return messages
