"""The life of ``wagi webhook``: where its certificate comes from, and what it prints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.observe.server_log import server_log
from wagi.server import listeners
from wagi.server.tls import Certificate, read_certificate
from wagi.webhook.gateway import GatewayOptions
from wagi.webhook.server import Refresh, WebhookServer

logger = logging.getLogger(__name__)

_MAX_INTERVAL_S = 30.0  # between two checks of the certificate
_CHECKS = 30  # in the lifetime of a certificate


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """The options of ``wagi webhook``.

    Attributes:
        gateway: How gateways run.
        listen: Where to listen.
        tls_cert: The certificate chain; None to create and renew one.
        tls_key: Its private key.
        secret: The Secret with the certificate authority.
        configuration: The MutatingWebhookConfiguration.
        service: The Service of the webhook.
        lifetime: The lifetime of a certificate in seconds.
        shutdown_delay: Seconds after SIGTERM in which connections are still accepted.
        log_format: ``text`` or ``json``.
        account: The directory of the service account.
    """

    gateway: GatewayOptions
    listen: HostPort
    tls_cert: Path | None
    tls_key: Path | None
    secret: str
    configuration: str
    service: str
    lifetime: float
    shutdown_delay: float
    log_format: str
    account: Path


def serve(options: WebhookOptions) -> None:
    """Serve until SIGTERM.

    Raises:
        WagiError: It cannot start.
    """
    # The first certificate is checked before the log is opened: mistakes are printed as errors.
    own = read_certificate(options.tls_cert, options.tls_key)
    if own is None and find_spec("cryptography") is None:
        message = (
            "the package cryptography is missing: pip install 'wagi[webhook]', or pass --tls-cert"
            " and --tls-key"
        )
        raise ConfigurationError(Problem(message))
    with listeners.listen(options.listen, 1) as (listener,), server_log(options.log_format) as log:
        announce = logger.info if options.log_format == "json" else log.print

        async def run() -> None:
            async with _certificates(options) as refresh:
                server = WebhookServer(
                    listener,
                    options.gateway,
                    refresh,
                    min(_MAX_INTERVAL_S, options.lifetime / _CHECKS),
                    options.shutdown_delay,
                )
                url = listeners.url(listener, tls=True)
                await server.serve(lambda: announce(f"listening on {url}"))

        asyncio.run(run())


@asynccontextmanager
async def _certificates(options: WebhookOptions) -> AsyncIterator[Refresh]:
    """Open where certificates come from."""
    if options.tls_cert is not None:

        async def read() -> Certificate:
            found = read_certificate(options.tls_cert, options.tls_key)
            assert found is not None
            return found

        yield read
        return
    from wagi.webhook.authority import ClusterCertificate, ClusterNames
    from wagi.webhook.kubernetes import Client, Cluster

    cluster = Cluster.find(options.account)
    names = ClusterNames(cluster.namespace, options.secret, options.configuration, options.service)
    async with Client.connect(cluster) as client:
        certificate = ClusterCertificate(client, names, timedelta(seconds=options.lifetime))

        async def refresh() -> Certificate:
            pair = await certificate.refresh()
            return pair.certificate, pair.key

        yield refresh
