"""Coroutines that begin at once, and become tasks only when they have to wait.

Most requests are answered without waiting for anything. A task for each of them would cost as much
as the rest of the answer, and two passes of the event loop. Python 3.12 has eager tasks for this
(``asyncio.eager_task_factory``); this works the same way in 3.11.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


@types.coroutine
def enter_task() -> Generator[None, None, None]:
    """Go on in a task. The first ``await`` of a coroutine for ``start`` that may wait is this one.

    Within a task it lets the event loop make one pass.
    """
    yield


def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine until it ends or calls ``enter_task``.

    Returns:
        The task in which it goes on; None if it has ended.

    Raises:
        Exception: What it raises before it ends or calls ``enter_task``.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    if waits_for is not None:
        coroutine.close()
        raise RuntimeError(f"{coroutine!r} waits for {waits_for!r} without enter_task()")
    return asyncio.get_running_loop().create_task(coroutine)
