"""What a (re)load produces: a plan, with its compiled modules held open."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from wagi.errors import WagiError
from wagi.gateway.route import Plan
from wagi.server.signals import signals_blocked

_fork = multiprocessing.get_context("fork")


class Generation:
    """A plan and its compiled modules, which stay readable even if their files are deleted.

    Args:
        plan: The plan.
        find: Returns the file of a compiled module by its key.

    Raises:
        WagiError: A compiled module is missing or cannot be read.
    """

    def __init__(self, plan: Plan, find: Callable[[str], Path | None]) -> None:
        self.plan = plan
        self._files: dict[str, int] = {}
        try:
            for spec in (route.spec for route in plan.handlers):
                for key in spec.artefacts:
                    if key not in self._files:
                        path = find(key)
                        if path is None:
                            raise WagiError(f"the compiled module of {spec.name} is missing")
                        self._files[key] = os.open(path, os.O_RDONLY)
        except (OSError, WagiError) as error:
            self.close()
            if isinstance(error, WagiError):
                raise
            raise WagiError(f"cannot read a compiled module: {error.strerror}") from None

    @property
    def artefacts(self) -> dict[str, Path]:
        """The compiled modules by their keys: paths valid in this process and its children."""
        return {key: Path(f"/dev/fd/{number}") for key, number in self._files.items()}

    def close(self) -> None:
        """Close the files of the compiled modules."""
        for number in self._files.values():
            os.close(number)
        self._files.clear()


class Loader:
    """A process that loads a plan.

    Args:
        load: Loads the plan.
        prepare: Called first in the process.

    Attributes:
        receiver: Becomes readable when there is a result.
    """

    def __init__(self, load: Callable[[], Plan], prepare: Callable[[], None]) -> None:
        self.receiver, sender = _fork.Pipe(duplex=False)

        def run() -> None:
            prepare()
            try:
                sender.send(load())
            except WagiError as error:
                sender.send(error)

        self.process = _fork.Process(target=run, name="wagi loader")
        with signals_blocked():
            self.process.start()
        sender.close()

    def result(self) -> Plan:
        """Wait for the process, and return its plan.

        Raises:
            WagiError: The plan could not be loaded.
        """
        try:
            result: Plan | WagiError = self.receiver.recv()
        except EOFError:
            result = WagiError("the loading process died")
        self.process.join()
        self.receiver.close()
        if isinstance(result, WagiError):
            raise result
        return result

    def cancel(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.receiver.close()
