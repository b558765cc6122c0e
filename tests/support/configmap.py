"""Volumes of Kubernetes in a folder, as the kubelet writes and updates them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tests.support.server import write_files


class ConfigMap:
    """The volume of a ConfigMap or a Secret: the kubelet's atomic writer updates it.

    The files are in a hidden folder, to which the link ``..data`` leads. All other names are links
    through ``..data``, which never change.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "modules.toml"
        self.versions = 0

    def write(self, content: Mapping[str, str | bytes]) -> None:
        """Replace all files, by their paths in the volume."""
        self.versions += 1
        data = self.folder / "..data"
        before = data.resolve() if data.exists() else None
        version = f"..2026_11_29_10_00_00.{self.versions}"
        write_files(self.folder / version, content)
        replace_link(data, version)
        for name in {PurePosixPath(path).parts[0] for path in content}:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        if before is not None:
            shutil.rmtree(before)


def replace_link(link: Path, target: str) -> None:
    """Let a symbolic link lead elsewhere, atomically."""
    temporary = link.with_name(f"{link.name}_tmp")
    temporary.symlink_to(target)
    temporary.rename(link)
