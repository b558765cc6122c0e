"""How pytest-xdist distributes the tests over its processes.

A group (``xdist_group``) or, without one, a file is run by one process: servers and compiled
handlers that its tests share are made once. What takes longest comes first, so that all processes
end at about the same time.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadgroup import LoadGroupScheduling

LONG = (
    "cluster/test_admission.py",
    "cluster/test_node.py",
    "deploy/test_image.py",
    "deploy/test_chart_podman.py",
    "deploy/test_systemd_service.py",
    "test_templates.py",
    "test_readme.py",
    "guest/test_go_standard_library.py",
    "test_wasi_http_toolchains.py",
    "test_examples.py",
    "sources/test_faults.py",
    "hostile/test_fairness.py",
    "hostile/test_pipelined.py",
    "hostile/test_malformed.py",
    "test_cgi_libraries.py",
    "test_tinygo.py",
    "test_sdist.py",
    "test_fuzz.py",
    "hostile/test_memory.py",
    "guest/snapshot/test_command.py",
    "guest/snapshot/test_python.py",
    "test_components.py",
)
"""Files that take about a minute or more, the longest first."""
_RANKS = {f"tests/{name}": rank for rank, name in enumerate(LONG)}


class FileScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """Runs the groups and files in the order in which their tests were collected.

    Tests of few files are distributed one by one, so that no process is idle.
    """

    def __init__(self, config: pytest.Config, log: Producer | None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._by_file = True

    def schedule(self) -> None:
        """Distribute the tests when all processes have collected them."""
        if self.collection is None:
            collected = next(iter(self.registered_collections.values()))
            self._by_file = len(set(map(_file_of, collected))) > len(self.nodes)
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return _file_of(nodeid) if scope == nodeid and self._by_file else scope


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def sort_by_duration(items: list[pytest.Item]) -> None:
    """Move the tests of ``LONG`` to the beginning."""
    items.sort(key=lambda item: _RANKS.get(_file_of(item.nodeid), len(LONG)))
