"""Coroutines that start immediately and become tasks only when they have to wait.

Most requests are answered without waiting. A task for each of them would cost as much as the rest
of the work, and two iterations of the event loop. Python 3.12 has eager tasks for this purpose
(``asyncio.eager_task_factory``); this module is an equivalent for 3.11.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


@types.coroutine
def enter_task() -> Generator[None, None, None]:
    """Continue in a task.

    A coroutine that is passed to ``start`` has to await this before anything else that may wait.
    Within a task it yields to the event loop for one iteration.
    """
    yield


def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine until it ends or calls ``enter_task``.

    Returns:
        The task in which it continues; None if it has ended.

    Raises:
        Exception: Any exception of the coroutine before it calls ``enter_task``.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    if waits_for is not None:
        coroutine.close()
        raise RuntimeError(f"{coroutine!r} waits for {waits_for!r} without enter_task()")
    return asyncio.get_running_loop().create_task(coroutine)
