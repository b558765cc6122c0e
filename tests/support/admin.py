"""A client of the admin listener."""

from __future__ import annotations

import http.client

from prometheus_client.parser import text_string_to_metric_families


class Admin:
    """A client of an admin listener."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, accept: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept": accept} if accept else {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with a name and some labels."""
        _, text = self.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
