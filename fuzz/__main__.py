"""Fuzz one target under libFuzzer, guided by the coverage of ``wagi``.

    pip install '.[fuzz]'
    python -m fuzz response --seconds 600
    python -m fuzz parser --seconds 600
    python -m fuzz request --seconds 600
    python -m fuzz hostcalls --seconds 600
    python -m fuzz core --seconds 600
    python -m fuzz component --seconds 600
    python -m fuzz preview2 --seconds 600

A finding is an exception: libFuzzer prints it, keeps the input as ``crash-*`` in the working folder
and exits with 77. What covers something new goes to the folder that ``--into`` names; ``--merge``
adds the part of such a folder that is worth keeping to ``fuzz/corpus``, which the tests replay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

NAMES = ("response", "parser", "request", "hostcalls", "core", "component", "preview2")
CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Parse the command line and fuzz."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--into", type=Path, help="a folder for what covers something new")
    parser.add_argument("--merge", type=Path, help="a folder to add to the corpus; fuzz nothing")
    options = parser.parse_args()
    corpus = str(CORPUS / options.target)
    if options.merge:
        arguments = ["-merge=1", corpus, str(options.merge)]
    else:
        into = options.into or Path(tempfile.mkdtemp(prefix="wagi-fuzz-"))
        into.mkdir(parents=True, exist_ok=True)
        arguments = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=20"]
        arguments += ["-print_final_stats=1", str(into), corpus]
    with atheris.instrument_imports(include=["wagi"]):
        from fuzz import targets
    atheris.Setup([sys.argv[0], *arguments], getattr(targets, options.target))
    atheris.Fuzz()


main()
