"""Code that runs as another user, in a forked process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.support.toolchains import missing

T = TypeVar("T")


def require_root() -> None:
    """End the test unless it may change to other users."""
    if os.geteuid() != 0:
        missing("this test runs processes as several users: run it as root")


def as_user(user: int, groups: Sequence[int], call: Callable[[], T]) -> T:
    """Call a function as another user, in a forked process.

    Args:
        user: The number of the user, and of its own group.
        groups: The numbers of its further groups.
        call: The function. All that it imports has to be imported already.

    Returns:
        What the function returns.

    Raises:
        Exception: What the function raises.
    """
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            result = (True, call())
        except Exception as error:
            result = (False, error)  # type: ignore[assignment]
        finally:
            os.write(sender, pickle.dumps(result))
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        is_result, value = pickle.loads(pipe.read())
    os.waitpid(pid, 0)
    if not is_result:
        raise value
    return value  # type: ignore[no-any-return]
