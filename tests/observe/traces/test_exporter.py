"""The report of an endpoint that does not accept spans."""

from __future__ import annotations

import pytest

from wagi.observe.traces.exporter import OutageReport, describe_failure

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "Transient error HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded"
            " with url: /v1/traces (Caused by NewConnectionError('<...>: Failed to establish a new"
            " connection: [Errno 111] Connection refused')) encountered while exporting span batch",
            "Connection refused",
        ),
        (
            "Transient error HTTPConnectionPool(host='x', port=9): Read timed out. (read"
            " timeout=10) encountered while exporting span batch, retrying in 1s.",
            "timed out",
        ),
        ("Failed to export spans batch code: 401, reason: Unauthorized", "401 Unauthorized"),
        ("Transient error Bad Gateway encountered while exporting span batch", "Bad Gateway"),
        (
            "Transient error HTTPSConnectionPool(host='x', port=9): Max retries exceeded with url:"
            " /v1/traces?key=secret (Caused by SSLError(SSLCertVerificationError(1, 'certificate"
            " verify failed'))) encountered while exporting span batch, retrying in 1s.",
            "SSLError(SSLCertVerificationError(1, 'certificate verify failed'))",
        ),
        (
            "Failed to export spans batch code: None, reason: Invalid URL 'http://me:secret@x'",
            "Failed to export spans batch code: None, reason: Invalid URL 'http://x'",
        ),
        (
            "Transient error Invalid character(s) in header value: 'secret' encountered",
            "OTEL_EXPORTER_OTLP_HEADERS: expected pairs such as name=value, separated by commas and"
            " percent-encoded",
        ),
        ("something\nelse", "something\\x0aelse"),
        ("", "unknown error"),
    ],
)
def test_the_reason_is_short(message: str, reason: str) -> None:
    assert describe_failure(message) == reason


def test_one_process_reports() -> None:
    report = OutageReport()
    assert [report.take(), report.take()] == [True, False]
    report.give_back()
    assert [report.take(), report.take()] == [True, False]
