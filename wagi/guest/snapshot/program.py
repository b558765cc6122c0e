"""What a command is run with until it reaches its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that the command may read (absolute path), as ``guest_path``."""

    host_path: Path
    guest_path: str


@dataclass(frozen=True, slots=True)
class Program:
    """The arguments and the sandbox of a command.

    Attributes:
        arguments: Its arguments, with the name of the program.
        variables: Its environment variables.
        directories: What it may read, in the order in which its guests will see directories.
        has_prelude: Whether the command prepares itself for any request and then reads stdin; else
            its checkpoint is the first call that depends on the request.
        checkpoint: The host call that is the checkpoint without a prelude; empty for the default.
        memory_limit: Maximum size of its memory in bytes; 0 for no limit.
    """

    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    directories: tuple[Directory, ...] = ()
    has_prelude: bool = False
    checkpoint: str = ""
    memory_limit: int = 0
