"""``wagi snapshot``: start a module at build time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wagi.assembly import stores
from wagi.cli.console import show_progress
from wagi.cli.options import SettingsCommand, setting_options, settings_from
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest import binary
from wagi.guest.snapshot import preludes
from wagi.guest.snapshot.binaryen import find_tool
from wagi.guest.snapshot.command import snapshot_command
from wagi.guest.snapshot.errors import MissingToolError, SnapshotError
from wagi.guest.snapshot.program import Directory, Program
from wagi.guest.snapshot.reactor import snapshot_reactor
from wagi.guest.snapshot.state import StateLayout

_INITIALIZE = "_initialize"


@click.command(
    cls=SettingsCommand,
    short_help="Start a module at build time.",
    help="""Start MODULE, and save its state as a new module.

    Language runtimes and interpreters work before they handle a request. The new module begins
    where this work has ended. Each request still gets a separate instance.

    A command (with the export `_start`) is run up to its checkpoint: the first host call that
    depends on the request, such as reading an argument, a variable, stdin, the time of day or
    random numbers. The result is a command as well. This requires wasm-opt of Binaryen.

    With --argv, MODULE is an interpreter, and the checkpoint comes after it has compiled a script
    and imported its modules. Python is supported. The script and its modules are read from the
    directories given with --volume, and are then part of the new module.

    A reactor (with the export `_initialize`, or the one given with --initialize) is initialized.
    In modules.toml, set `entrypoint` to the function that handles requests.

    The module has no access to the host. Values that it computes before, from random numbers and
    times, are the same in every instance.

    \b
    Examples:
      wagi snapshot handler.wasm -o handler.snapshot.wasm
      wagi snapshot python.wasm --argv "python /app/handler.py" --volume /app=src -o app.wasm
    """,
)
@click.argument("module", type=click.Path(path_type=Path), metavar="MODULE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option(
    "--initialize",
    metavar="NAME",
    help="Exported function that initializes a reactor; it is removed from the new module.",
)
@click.option(
    "--checkpoint",
    metavar="CALL",
    default="",
    help="Host call that is the checkpoint of a command, such as fd_read; what it computes before"
    " is then the same in every instance.",
)
@click.option("--argv", metavar="TEXT", help="Command line of an interpreter, with a script.")
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="GUEST=DIRECTORY",
    help="Directory that an interpreter can read; the order has to be that of modules.toml.",
)
@setting_options("artefact_cache")
def snapshot(
    module: Path,
    output: Path,
    initialize: str | None,
    checkpoint: str,
    argv: str | None,
    volumes: tuple[str, ...],
    **options: Any,
) -> None:
    """Create a snapshot."""
    try:
        content = module.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", module)) from None
    if volumes and argv is None:
        raise click.UsageError("--volume requires --argv")
    if argv is not None and (checkpoint or initialize):
        raise click.UsageError("--argv excludes --checkpoint and --initialize")
    if checkpoint and initialize:
        raise click.UsageError("--checkpoint is for commands, --initialize for reactors")
    try:
        if argv is not None:
            program = _interpreter(argv, _directories(volumes))
            new_module, what = _command(content, program, output, options)
        elif initialize is None and (checkpoint or not _is_reactor(content)):
            program = Program(checkpoint=checkpoint)
            new_module, what = _command(content, program, output, options)
        else:
            name = initialize or _INITIALIZE
            new_module, what = snapshot_reactor(content, name), f"initialized by {name}"
    except MissingToolError as error:
        raise WagiError(str(error)) from None
    except SnapshotError as error:
        raise ConfigurationError(Problem(str(error), module)) from None
    try:
        output.write_bytes(new_module)
    except OSError as error:
        raise WagiError(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(new_module):,} bytes, {what}")


def _is_reactor(content: bytes) -> bool:
    """Whether a module has an export for its initialization, or lacks that of commands."""
    try:
        exports = {name for name, _ in StateLayout.read(content).exports}
    except binary.MalformedModuleError:
        return True  # the reader of reactors reports it
    return _INITIALIZE in exports or "_start" not in exports


def _interpreter(argv: str, directories: tuple[Directory, ...]) -> Program:
    words = argv.split()
    if not preludes.prelude_of(words):
        raise click.UsageError(f"--argv {argv!r}: expected a command line that begins with python")
    return preludes.python_program(words, (), directories)


def _command(
    content: bytes, program: Program, output: Path, options: dict[str, Any]
) -> tuple[bytes, str]:
    tool = find_tool([Path()])
    try:
        with stores(settings_from(options)) as kept:
            made, checkpoint = snapshot_command(
                content,
                program,
                tool,
                lambda line: show_progress(f"{output}: {line}"),
                kept.artefacts,
            )
    finally:
        show_progress("")
    return made, f"checkpoint: {checkpoint.name}"


def _directories(volumes: tuple[str, ...]) -> tuple[Directory, ...]:
    directories = []
    for volume in volumes:
        guest_path, _, path = volume.partition("=")
        if not guest_path or not path:
            raise click.UsageError(f"--volume {volume!r}: expected GUEST=DIRECTORY")
        if not Path(path).is_dir():
            raise click.UsageError(f"--volume {volume!r}: {path} is not a directory")
        directories.append(Directory(Path(path).absolute(), guest_path))
    return tuple(directories)
