"""Coroutines that become tasks only when they wait."""

from __future__ import annotations

import asyncio

import pytest

from wagi.http.tasks import enter_task, start

pytestmark = pytest.mark.fast


def test_a_coroutine_that_never_waits_runs_without_a_task() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    assert start(work()) is None
    assert done == ["all"]


def test_an_error_before_the_first_wait_is_raised() -> None:
    async def work() -> None:
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        start(work())


def test_a_coroutine_that_waits_continues_in_a_task() -> None:
    async def work(steps: list[str]) -> None:
        steps.append("before")
        await enter_task()
        async with asyncio.timeout(10):  # needs a task
            await asyncio.sleep(0)
        steps.append("after")

    async def run() -> None:
        steps: list[str] = []
        task = start(work(steps))
        assert task is not None
        assert steps == ["before"]
        await task
        assert steps == ["before", "after"]

    asyncio.run(run())


def test_cancellation_reaches_the_coroutine() -> None:
    async def work(steps: list[str]) -> None:
        try:
            await enter_task()
        finally:
            steps.append("closed")

    async def run() -> None:
        steps: list[str] = []
        task = start(work(steps))
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["closed"]

    asyncio.run(run())


def test_waiting_without_entering_a_task_is_an_error() -> None:
    async def work() -> None:
        await asyncio.sleep(1)

    async def run() -> None:
        with pytest.raises(RuntimeError, match="without enter_task"):
            start(work())

    asyncio.run(run())
