"""The cluster, and the webhook that its API server calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.cluster import cluster as running_cluster
from tests.support.helm import CHART
from tests.support.nginx import free_port
from tests.support.webhooks import Webhook, start_webhook

NAMESPACE = "wagi"
NAME = "wagi-webhook"
CONFIGURATION = f"{NAMESPACE}-{NAME}"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without nodes."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@dataclass
class Installation:
    """The chart in a cluster, with the rights of its webhook but without its pods.

    Attributes:
        cluster: The cluster.
        account: The directory of the service account.
        port: The port at which the API server calls the webhook.
    """

    cluster: Cluster
    account: Path
    port: int

    @contextmanager
    def webhook(
        self, image: str, *options: str, port: int | None = None, wait: bool = True
    ) -> Iterator[Webhook]:
        """Run ``wagi webhook`` as a pod of the chart would."""
        address = {"HOST": "127.0.0.1", "PORT": str(self.cluster.port)}
        environment = {f"KUBERNETES_SERVICE_{key}": value for key, value in address.items()}
        with start_webhook(
            self.account,
            *("--image", image, "-l", f"127.0.0.1:{port or self.port}"),
            *("--service-account", str(self.account), "--shutdown-delay", "0"),
            *("--secret", NAME, "--service", NAME, "--configuration", CONFIGURATION, *options),
            environment=environment,
            wait=wait,
        ) as webhook:
            yield webhook


@pytest.fixture(scope="session")
def installation(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The chart, installed by helm."""
    values = "webhook.enabled=true,gateway.enabled=false,webhook.replicaCount=0"
    options = ("--namespace", NAMESPACE, "--create-namespace", "--set", values)
    done = cluster.helm("install", "wagi", str(CHART), *options)
    assert done.returncode == 0, done.stderr
    account = tmp_path_factory.mktemp("account")
    token = cluster.do("create", "token", NAME, "--namespace", NAMESPACE)
    authority = (cluster.folder / "certs/apiserver.crt").read_text()
    for name, content in (("token", token), ("ca.crt", authority), ("namespace", NAMESPACE)):
        (account / name).write_text(content)
    port = free_port()
    # Services need kube-proxy: the API server calls the webhook at its port instead.
    address = {"url": f"https://localhost:{port}/mutate"}
    patch = [{"op": "replace", "path": "/webhooks/0/clientConfig", "value": address}]
    cluster.do(
        *("patch", "mutatingwebhookconfiguration", CONFIGURATION, "--type=json"),
        *("--patch", json.dumps(patch)),
    )
    return Installation(cluster, account, port)
