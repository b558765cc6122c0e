"""A client for the few objects of the Kubernetes API that the webhook reads and changes."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from wagi.errors import ConfigurationError, Problem, WagiError

_TIMEOUT_S = 10.0  # of a request


class KubernetesError(WagiError):
    """The API server rejects a request or cannot be reached.

    Attributes:
        status: The status of its response; 0 without a response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a pod reaches the API server of its cluster.

    Attributes:
        url: The URL of the API server.
        account: The directory of the service account: ``token``, ``ca.crt`` and ``namespace``.
    """

    url: str
    account: Path

    @classmethod
    def find(cls, account: Path) -> Self:
        """Find the API server, as every client in a pod does.

        Raises:
            ConfigurationError: This process does not run in a pod, or has no service account.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
        if not host or not (account / "token").is_file():
            raise ConfigurationError(
                Problem(
                    f"no service account of a cluster ({account}/token and"
                    " KUBERNETES_SERVICE_HOST): run it in a pod, or pass --tls-cert and --tls-key"
                )
            )
        host = f"[{host}]" if ":" in host else host
        return cls(f"https://{host}:{port or 443}", account)

    @property
    def namespace(self) -> str:
        """The namespace of the pod."""
        return _read(self.account / "namespace").strip()


class Client:
    """Sends requests to the API server."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, cluster: Cluster) -> AsyncIterator[Self]:
        """Open a client.

        Raises:
            KubernetesError: The certificate of the API server cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=str(cluster.account / "ca.crt"))
        except (OSError, ssl.SSLError) as error:
            raise KubernetesError(f"{cluster.account / 'ca.crt'}: {error}") from None
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        ) as session:
            yield cls(cluster, session)

    async def get(self, path: str) -> dict[str, Any]:
        """Read an object.

        Raises:
            KubernetesError: The request fails.
        """
        return await self._request("GET", path)

    async def post(self, path: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises: KubernetesError if the request fails."""
        return await self._request("POST", path, value)

    async def put(self, path: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; status 409 if it has changed. Raises: KubernetesError on failure."""
        return await self._request("PUT", path, value)

    async def patch(self, path: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
        """Apply a JSON patch. Raises: KubernetesError if the request fails."""
        return await self._request("PATCH", path, operations, "application/json-patch+json")

    async def _request(
        self, method: str, path: str, value: Any = None, media_type: str = "application/json"
    ) -> dict[str, Any]:
        # The kubelet renews the token, so it is read each time.
        token = _read(self._cluster.account / "token").strip()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if value is not None:
            headers["Content-Type"] = media_type
        try:
            async with self._session.request(
                method, self._cluster.url + path, json=value, headers=headers, allow_redirects=False
            ) as response:
                content = await response.read()
                return _parse(f"{method} {path}", response.status, content)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or f"no response within {_TIMEOUT_S:g} s"
            raise KubernetesError(f"{method} {path}: {reason}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise KubernetesError(f"{path}: {error.strerror}") from None


def _parse(request: str, status: int, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KubernetesError(f"{request}: status {status} without JSON", status)
    if status >= 300:
        raise KubernetesError(f"{request}: {value.get('message') or f'status {status}'}", status)
    return value
