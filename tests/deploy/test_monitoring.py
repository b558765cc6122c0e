"""deploy/monitoring: the alerts, the dashboard and the scrape configuration."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.nginx import free_port
from tests.support.server import ROOT, Server, serving
from tests.support.toolchains import tool
from tests.support.wat import HELLO, Program
from wagi.observe.metrics.families import FAMILIES

MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = json.loads((MONITORING / "wagi.dashboard.json").read_text())
RULES = yaml.safe_load((MONITORING / "wagi.rules.yml").read_text())["groups"][0]["rules"]
MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "trap.wat": Program().code("unreachable").wat(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n' for name in MODULES
)
ADDED_LABELS = {"job", "instance", "le"}
"""Labels of Prometheus, and the one of buckets."""
VARIABLES = {"$job": "wagi", "$instance": ".*", "$route": ".*", "$__rate_interval": "10s"}
"""What Grafana replaces in a query."""


def dashboard_queries() -> list[str]:
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    annotations = DASHBOARD["annotations"]["list"]
    queries = [entry["expr"] for entry in (*targets, *annotations)]
    for name, value in VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def promtool(*arguments: str, folder: Path = MONITORING) -> str:
    """Run promtool, which must succeed without warnings."""
    done = subprocess.run(
        [tool("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_the_scrape_configuration_is_valid() -> None:
    assert "SUCCESS: prometheus.yml is valid" in promtool("check", "config", "prometheus.yml")


def test_the_alerts_are_valid() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", "wagi.rules.yml")


def test_the_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", "wagi.rules.test.yml")


def test_the_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate(dashboard_queries())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool(
        "check", "rules", path.name, folder=tmp_path
    )


@pytest.mark.fast
def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load((MONITORING / "wagi.rules.test.yml").read_text())["tests"]
    tested = [rule["alertname"] for test in tests for rule in test.get("alert_rule_test", ())]
    assert tested == [rule["alert"] for rule in RULES]


@pytest.mark.fast
def test_labels_in_queries_exist() -> None:
    known = ADDED_LABELS.union(*(family.labels for family in FAMILIES))
    for query in (*dashboard_queries(), *(rule["expr"] for rule in RULES)):
        lists = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
        used = {name.strip() for names in lists for name in names.split(",")}
        used.update(re.findall(r'(\w+)=~?"', query))
        assert used <= known, query


@pytest.mark.fast
def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            assert x < 24
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


@contextmanager
def observed(folder: Path) -> Iterator[tuple[Server, int]]:
    """Run a server. Yields: it, and the port of its admin listener."""
    port = free_port()
    options = ("--admin-listen", f"127.0.0.1:{port}", "--memory-budget", "64MiB")
    with serving(folder, MANIFEST, *options, modules=MODULES) as server:
        yield server, port


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def make_requests(server: Server) -> None:
    for path, status in (("/hello", 200), ("/trap", 500), ("/missing", 404)):
        assert server.get(path).status == status


def test_metrics_in_queries_exist(tmp_path: Path) -> None:
    """Compared with the metrics of a real server."""
    with observed(tmp_path) as (server, port):
        make_requests(server)
        families = list(text_string_to_metric_families(get(port, "/metrics")))
    known = {sample.name for family in families for sample in family.samples}
    for query in (*dashboard_queries(), *(rule["expr"] for rule in RULES)):
        used = set(re.findall(r"\b(?:wagi|process)_\w+", query))
        assert used or "up{" in query
        assert used <= known, query
    # Nor does the dashboard leave one out.
    shown = " ".join(dashboard_queries())
    families_shown = {family.name for family in families if re.search(rf"\b{family.name}", shown)}
    left_out = {family.name for family in families} - families_shown
    assert left_out == {"process_virtual_memory_bytes"}


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """Run Prometheus with the scrape configuration and the alerts. Yields: its port."""
    folder.mkdir()
    text = (MONITORING / "prometheus.yml").read_text()
    for shown, real in (("127.0.0.1:9464", f"127.0.0.1:{target}"), (": 15s", ": 1s")):
        assert shown in text
        text = text.replace(shown, real)
    (folder / "prometheus.yml").write_text(text)
    (folder / "wagi.rules.yml").write_bytes((MONITORING / "wagi.rules.yml").read_bytes())
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, path: str, **query: str) -> Any:
    """Ask the API of Prometheus; None while it is not ready."""
    try:
        text = get(port, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        answer = json.loads(text)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    assert answer["status"] == "success", answer
    return answer["data"]


def test_prometheus_answers_every_query(tmp_path: Path) -> None:
    """A real Prometheus scrapes a real server: each query of the dashboard has a result."""
    with observed(tmp_path) as (server, admin), prometheus(tmp_path / "prometheus", admin) as port:
        waiting = {"up", *dashboard_queries()}
        # The annotation marks reloads, and this server reloads nothing.
        waiting -= {query for query in waiting if "changes(" in query}
        deadline = time.monotonic() + 60
        while waiting:
            assert time.monotonic() < deadline, waiting
            make_requests(server)
            time.sleep(0.3)
            answers = {query: ask(port, "query", query=query) for query in waiting}
            waiting = {query for query, data in answers.items() if not data or not data["result"]}
        (group,) = ask(port, "rules")["groups"]
        assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
        assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
        (target,) = ask(port, "targets")["activeTargets"]
        assert target["labels"] == {"instance": f"127.0.0.1:{admin}", "job": "wagi"}
        assert target["health"] == "up"
