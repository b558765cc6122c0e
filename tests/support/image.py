"""The image of deploy/Containerfile, built once for all tests that need it."""

from __future__ import annotations

from functools import cache

from tests.support.containers import BASE, BUILD_BASE, build, pip_arguments, require_containers
from tests.support.server import ROOT

IMAGE = "localhost/wagi:first"
LABELS = {"VERSION": "1.2.3", "REVISION": "0123abc", "SOURCE": "https://example.com/wagi"}
"""Build arguments that become labels."""
EPOCH = "1700000000"


@cache
def wagi_image() -> str:
    """Build the image; skip or fail the test if containers do not run on this machine.

    Returns:
        ``IMAGE``.
    """
    require_containers()
    return build_image(IMAGE)


def build_image(name: str) -> str:
    """Build the image of deploy/Containerfile without cached steps."""
    arguments = LABELS | {"BASE": BASE, "BUILD_BASE": BUILD_BASE, "SOURCE_DATE_EPOCH": EPOCH}
    build(
        ROOT,
        *("--file", "deploy/Containerfile", "--timestamp", EPOCH, "--no-cache"),
        *(f"--build-arg={key}={value}" for key, value in arguments.items()),
        *(*pip_arguments(), "--tag", name, "."),
    )
    return name
