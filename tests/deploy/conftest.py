"""The image of deploy/Containerfile."""

from __future__ import annotations

import pytest

from tests.support.image import wagi_image


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image."""
    return wagi_image()
