"""The certificate authority that all replicas share, and that the API server trusts.

Its key is in a Secret. Each replica issues its own certificate from it. The API server trusts what
is in ``caBundle`` of the MutatingWebhookConfiguration. A new authority is added there, before those
that other replicas still use, and before a certificate that it issues is used: a renewal interrupts
no call.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from wagi.webhook.certificates import (
    KeyPair,
    bundle,
    create_authority,
    is_due,
    is_usable,
    issue,
)
from wagi.webhook.kubernetes import Client, KubernetesError

_CERTIFICATE, _KEY = "ca.crt", "ca.key"
_LIFETIMES = 12  # of an authority, in lifetimes of a certificate
_CONFLICT, _NOT_FOUND = 409, 404
_ATTEMPTS = 5  # to store an authority, while other replicas do the same

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """The objects of the cluster that belong to the webhook.

    Attributes:
        namespace: The namespace of the Secret and the Service.
        secret: The Secret with the certificate authority.
        configuration: The MutatingWebhookConfiguration.
        service: The Service, to whose name the certificate is issued.
    """

    namespace: str
    secret: str
    configuration: str
    service: str

    @property
    def hosts(self) -> Sequence[str]:
        """The names of the Service, of which the API server uses the first; and port forwarding."""
        name = f"{self.service}.{self.namespace}"
        return f"{name}.svc", f"{name}.svc.cluster.local", "localhost"


class ClusterCertificate:
    """The certificate of a replica.

    Args:
        client: Sends requests to the API server.
        names: The objects of the webhook.
        lifetime: How long a certificate is valid.
    """

    def __init__(self, client: Client, names: ClusterNames, lifetime: timedelta) -> None:
        self._client = client
        self._names = names
        self._lifetime = lifetime
        self._authority: KeyPair | None = None  # that issued the current certificate
        self._current: KeyPair | None = None

    async def refresh(self) -> KeyPair:
        """Return the certificate to use from now on, a new one if the current one is due.

        Raises:
            KubernetesError: The Secret or the configuration cannot be read or changed.
        """
        now = datetime.now(UTC)
        authority = await self._share_authority(now)
        is_new = await self._announce(authority, now)
        if self._current is not None and is_new and authority != self._authority:
            # The API server needs a moment to read the new bundle, which has the earlier authority
            # as well: the next call replaces the certificate.
            return self._current
        if (
            self._current is None
            or authority != self._authority
            or is_due(self._current.certificate, now)
        ):
            self._current = issue(authority, self._names.hosts, now, self._lifetime)
            self._authority = authority
            log.info("issued a certificate for %s", self._names.hosts[0])
        return self._current

    async def _share_authority(self, now: datetime) -> KeyPair:
        """Read the authority from the Secret; store a new one if it has none, or an old one."""
        for _ in range(_ATTEMPTS):
            secret = await self._read_secret()
            data = secret.get("data") or {}
            stored = KeyPair(_decode(data.get(_CERTIFICATE)), _decode(data.get(_KEY)))
            if is_usable(stored) and not is_due(stored.certificate, now):
                return stored
            created = create_authority(now, self._lifetime * _LIFETIMES)
            shared = {_CERTIFICATE: _encode(created.certificate), _KEY: _encode(created.key)}
            try:
                await self._write_secret({**secret, "data": {**data, **shared}})
            except KubernetesError as error:
                if error.status != _CONFLICT:
                    raise
                continue  # another replica was faster: its authority is used
            log.info("created a certificate authority in the secret %s", self._names.secret)
            return created
        raise KubernetesError(f"the secret {self._names.secret} is changed by others all the time")

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self._names.namespace}/secrets"

    async def _read_secret(self) -> dict[str, Any]:
        try:
            return await self._client.get(f"{self._secrets}/{self._names.secret}")
        except KubernetesError as error:
            if error.status != _NOT_FOUND:
                raise
        metadata = {"name": self._names.secret, "namespace": self._names.namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}

    async def _write_secret(self, secret: dict[str, Any]) -> None:
        if "resourceVersion" in secret["metadata"]:
            # Replaces exactly the version that was read.
            await self._client.put(f"{self._secrets}/{self._names.secret}", secret)
        else:
            await self._client.post(self._secrets, secret)

    async def _announce(self, authority: KeyPair, now: datetime) -> bool:
        """Let the API server trust the authority. Returns: Whether it did not before."""
        path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        path = f"{path}/{self._names.configuration}"
        configuration = await self._client.get(path)
        operations: list[dict[str, Any]] = []
        for index, webhook in enumerate(configuration.get("webhooks") or ()):
            current = _decode(webhook["clientConfig"].get("caBundle"))
            expected = bundle(authority.certificate, current, now)
            if current != expected:
                place = f"/webhooks/{index}"
                operations += [
                    {"op": "test", "path": f"{place}/name", "value": webhook["name"]},
                    {
                        "op": "add",
                        "path": f"{place}/clientConfig/caBundle",
                        "value": _encode(expected),
                    },
                ]
        if operations:
            await self._client.patch(path, operations)
        return bool(operations)


def _decode(text: object) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error:
        return b""


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
