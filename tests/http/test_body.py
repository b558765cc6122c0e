"""Request bodies: buffering, back-pressure, timeouts and limits."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from wagi.http.body import BodyLimits, BodyReader, BodyStream
from wagi.http.errors import HTTPError
from wagi.http.spool import SpoolSpace

pytestmark = pytest.mark.fast


def stream() -> tuple[BodyStream, list[None]]:
    """A body stream, and a function that counts how often it asked for more."""
    asked: list[None] = []
    return BodyStream(is_complete=False, on_drain=lambda: asked.append(None)), asked


def reader(body: BodyStream, length: int = 10, **limits: int) -> BodyReader:
    values = {"spool_limit": 1000, "spool_total": 2000, "min_rate": 0} | limits
    space = SpoolSpace(values["spool_total"])
    return BodyReader(
        body, length, BodyLimits(values["spool_limit"], space, values["min_rate"]), None
    )


def test_take_returns_buffered_data() -> None:
    body, _ = stream()
    read = reader(body)
    assert read.take() == b""
    body.feed(b"one", is_last=False)
    body.feed(b"two", is_last=False)
    assert read.take() == b"onetwo"
    assert not read.is_exhausted
    body.feed(b"end", is_last=True)
    assert read.is_complete
    assert not read.is_exhausted
    assert read.take() == b"end"
    assert read.is_exhausted


def test_reading_resumes_when_the_buffer_has_room() -> None:
    body, asked = stream()
    body.feed(b"x" * 10, is_last=False)
    assert not body.is_full
    body.take()
    assert not asked
    body.feed(b"x" * 256 * 1024, is_last=False)
    assert not body.is_full, "one read of the event loop should not pause the next"
    body.feed(b"x", is_last=False)
    assert body.is_full
    assert len(body.take()) == 256 * 1024 + 1
    assert len(asked) == 1
    assert not body.is_full


def test_a_client_that_keeps_sending_is_not_idle() -> None:
    """Even if the guest does not read and the buffer has no room for more."""

    async def run() -> None:
        body, _ = stream()
        read = reader(body)
        await asyncio.sleep(0.02)
        assert read.idle_seconds >= 0.02
        before = read.idle_seconds
        body.feed(b"x", is_last=False)
        assert read.idle_seconds < before
        body.feed(b"x" * 300_000, is_last=False)
        await asyncio.sleep(0.02)
        assert read.idle_seconds == 0
        read.take()
        assert read.idle_seconds >= 0.02

    asyncio.run(run())


def test_reading_waits_for_data() -> None:
    async def run() -> None:
        body, _ = stream()
        read = reader(body)
        assert await read.read(0.01) is None
        asyncio.get_running_loop().call_later(0.01, body.feed, b"late", False)
        assert await read.read(None) == b"late"
        asyncio.get_running_loop().call_later(0.01, body.feed, b"", True)
        assert await read.read(None) == b""
        assert read.is_exhausted

    asyncio.run(run())


def test_a_disconnect_ends_the_wait() -> None:
    async def run() -> None:
        body, _ = stream()
        asyncio.get_running_loop().call_soon(body.fail, ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await reader(body).read(None)

    asyncio.run(run())


def test_failing_after_the_end_has_no_effect() -> None:
    body, _ = stream()
    body.feed(b"all", is_last=True)
    body.fail(ConnectionResetError("gone"))
    assert body.take() == b"all"


def test_a_spooled_body_is_read_back_in_order() -> None:
    async def run() -> bytes:
        body, _ = stream()
        data = bytes(range(256)) * 1000
        with closing(reader(body, spool_total=1_000_000)) as read:
            body.feed(data[:1000], is_last=False)
            asyncio.get_running_loop().call_later(0.01, body.feed, data[1000:], True)
            assert await read.spool(1_000_000, None) == len(data)
            taken = b""
            while not read.is_exhausted:
                taken += read.take()
        assert taken == data
        return taken

    assert asyncio.run(run())


def test_the_total_of_all_spools_is_limited() -> None:
    space = SpoolSpace(total=150)
    limits = BodyLimits(spool_limit=1000, spool_space=space, min_rate=0)

    async def read_ahead() -> BodyReader:
        body, _ = stream()
        body.feed(b"x" * 100, is_last=True)
        read = BodyReader(body, 1, limits, None)
        try:
            await read.read_ahead(None, 10)
        except HTTPError:
            read.close()
            raise
        return read

    async def run() -> None:
        first = await read_ahead()
        assert first.length == space.used == 100
        with pytest.raises(HTTPError) as error:
            await read_ahead()
        assert error.value.status == 503
        first.close()
        assert space.used == 0
        (await read_ahead()).close()

    asyncio.run(run())


@pytest.mark.parametrize(("size", "limit", "status"), [(11, 10, 413), (10, 10, None)])
def test_the_size_limit_applies_without_a_content_length(
    size: int, limit: int, status: int | None
) -> None:
    async def run() -> int:
        body, _ = stream()
        read = reader(body)
        body.feed(b"x" * size, is_last=True)
        with closing(read):
            await read.read_ahead(limit, 10)
            return read.length

    if status is None:
        assert asyncio.run(run()) == size
        return
    with pytest.raises(HTTPError) as error:
        asyncio.run(run())
    assert error.value.status == status


def test_a_body_timeout() -> None:
    async def run() -> None:
        body, _ = stream()
        with closing(reader(body)) as read:
            await read.read_ahead(10, 0.01)

    with pytest.raises(HTTPError) as error:
        asyncio.run(run())
    assert error.value.status == 408


def test_100_continue_is_sent_once() -> None:
    invited: list[None] = []
    body, _ = stream()
    read = BodyReader(body, 5, BodyLimits(10, SpoolSpace(10), 0), lambda: invited.append(None))
    read.send_continue()
    read.send_continue()
    assert len(invited) == 1
