"""Which folders decide what a path leads to, and whether that has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.dev.file_versions import folders_of, version_of

pytestmark = pytest.mark.fast


def test_the_folders_of_a_path(tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    (tmp_path / "releases/1/sub").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "link").symlink_to("current/../1/sub/file")
    expected = {tmp_path, tmp_path / "releases/1/sub"}
    assert folders_of(tmp_path / "link") == expected
    absolute = tmp_path / "absolute"
    absolute.symlink_to(tmp_path / "link")
    assert folders_of(absolute) == expected
    assert folders_of(tmp_path / "missing/file") == {tmp_path}
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert folders_of(loop) == {tmp_path}


def test_a_version_is_that_of_what_a_path_leads_to(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    link = tmp_path / "link"
    link.symlink_to("one")
    before = version_of(link / "file")
    assert before == version_of(link / "file")
    link.unlink()
    assert version_of(link / "file") is None
    link.symlink_to("two")
    assert version_of(link / "file") not in (before, None)
