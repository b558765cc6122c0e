"""``wagi webhook``: run Krustlet's pods on ordinary nodes."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.config.values import HostPort, UnixPath, parse_listen, parse_pair
from wagi.errors import ConfigurationError, Problem

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@click.command(
    short_help="Run Krustlet's pods on ordinary nodes.",
    help="""Serve the admission webhook of Kubernetes that rewrites pods with the annotation
    alpha.wagi.krustlet.dev/modules into ordinary pods of the gateway.

    It creates and renews its own certificate: the authority is in a Secret, and caBundle of the
    MutatingWebhookConfiguration has its certificate. With --tls-cert and --tls-key, it uses yours,
    which is read again when it changes, and needs no access to the API server.

    The Helm chart installs all of it with webhook.enabled=true.

    \b
    Examples:
      wagi webhook --image registry.example/wagi:0.1.0
      wagi webhook --image registry.example/wagi:0.1.0 --gateway-env WAGI_TRUSTED_PROXY=10.0.0.0/8
      wagi webhook --image registry.example/wagi:0.1.0 --tls-cert tls.crt --tls-key tls.key
    """,
)
@click.option("--image", required=True, metavar="IMAGE", help="Image of the gateway.")
@click.option(
    "--image-pull-policy",
    type=click.Choice(["Always", "IfNotPresent", "Never"]),
    default="IfNotPresent",
    show_default=True,
    help="When nodes pull the image of the gateway.",
)
@click.option(
    "--gateway-env",
    multiple=True,
    metavar="KEY=VALUE",
    help="Variable of every gateway, such as WAGI_TRUSTED_PROXY: sets an option of wagi serve.",
)
@click.option(
    "-l",
    "--listen",
    default=":8443",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on: HOST:PORT or :PORT.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate chain (PEM), instead of one that is created and renewed.",
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Private key (PEM)."
)
@click.option(
    "--secret",
    default="wagi-webhook",
    show_default=True,
    metavar="NAME",
    help="Secret with the certificate authority, shared by all replicas.",
)
@click.option(
    "--configuration",
    default="wagi-webhook",
    show_default=True,
    metavar="NAME",
    help="MutatingWebhookConfiguration whose caBundle is kept up to date.",
)
@click.option(
    "--service",
    default="wagi-webhook",
    show_default=True,
    metavar="NAME",
    help="Service of the webhook, in the namespace of the pod; the certificate has its name.",
)
@click.option(
    "--certificate-lifetime",
    type=click.FloatRange(min=10),
    default=30 * 24 * 3600,
    show_default=True,
    metavar="SECONDS",
    help="Lifetime of a certificate, which is renewed when a third is left; the authority lives 12"
    " times as long.",
)
@click.option(
    "--shutdown-delay",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="Time after SIGTERM in which connections are still accepted.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the log on stderr.",
)
@click.option(
    "--service-account",
    type=click.Path(path_type=Path),
    default=_SERVICE_ACCOUNT,
    show_default=True,
    metavar="DIR",
    help="Directory with token, ca.crt and namespace.",
)
def webhook(
    image: str,
    image_pull_policy: str,
    gateway_env: tuple[str, ...],
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    secret: str,
    configuration: str,
    service: str,
    certificate_lifetime: float,
    shutdown_delay: float,
    log_format: str,
    service_account: Path,
) -> None:
    """Serve the admission webhook."""
    from wagi.webhook.gateway import GatewayOptions
    from wagi.webhook.service import WebhookOptions, serve

    serve(
        WebhookOptions(
            GatewayOptions(image, image_pull_policy, _variables(gateway_env)),
            _address(listen),
            tls_cert,
            tls_key,
            secret,
            configuration,
            service,
            certificate_lifetime,
            shutdown_delay,
            log_format,
            service_account,
        )
    )


def _variables(pairs: tuple[str, ...]) -> dict[str, str]:
    try:
        return dict(map(parse_pair, pairs))
    except ValueError as error:
        raise ConfigurationError(Problem(f"--gateway-env: {error}")) from None


def _address(text: str) -> HostPort:
    try:
        address = parse_listen(text)
    except ValueError as error:
        raise ConfigurationError(Problem(f"-l/--listen: {error}")) from None
    if isinstance(address, UnixPath):
        raise ConfigurationError(Problem("-l/--listen: expected HOST:PORT or :PORT"))
    return address
