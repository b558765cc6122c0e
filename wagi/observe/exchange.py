"""The record of one request and its response, filled while it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Exchange:
    """What the logs say of a request.

    Attributes: ``headers`` of the request, of which the access log takes two; ``received`` in
    seconds since the epoch; ``started`` in seconds of ``time.perf_counter``; ``sent`` body bytes of
    the response; ``cpu_seconds`` of the guest.
    """

    request_id: str
    method: str
    target: str
    protocol: str
    client: str
    headers: Mapping[str, str]
    route: str = ""
    module: str = ""
    status: int = 0
    sent: int = 0
    cpu_seconds: float = 0.0
    received: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.started
