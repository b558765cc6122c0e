"""The CPU time of one request in each language, without a server.

python -m benchmarks.languages MODULES.TOML...   requests /?name=Ann of each
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benchmarks.machine import description
from wagi.config.settings import Settings
from wagi.testing.client import Client, in_process
from wagi.testing.local_gateway import local_gateway

_COUNT = 200
_WARM_UP = 5


def measure(manifest: Path) -> tuple[float, int]:
    """Return the median CPU time of a guest in milliseconds, and its memory in bytes."""
    with local_gateway(Settings(), manifest) as gateway:
        client = Client(in_process(gateway))
        responses = [client.get("/?name=Ann") for _ in range(_WARM_UP + _COUNT)][_WARM_UP:]
    assert all(response.text == "Hello, Ann!\n" for response in responses)
    times = [response.cpu_seconds for response in responses]
    return statistics.median(times) * 1e3, responses[0].memory


def main() -> None:
    """Print a table of the projects that the command line names."""
    print(f"{description()}\n- median of {_COUNT} requests\n")
    print("| project | CPU ms | memory MiB |\n| --- | ---: | ---: |")
    for name in sys.argv[1:]:
        cpu, memory = measure(Path(name))
        print(f"| {Path(name).parent.name} | {cpu:.2f} | {memory / 1024**2:.1f} |")


if __name__ == "__main__":
    main()
