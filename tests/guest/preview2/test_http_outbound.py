"""Bodies of outbound requests of wasi:http, between a guest and the client."""

from __future__ import annotations

import asyncio

import pytest

from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.preview2.http_bodies import OutgoingBody
from wagi.guest.preview2.http_errors import HttpError, HttpIoError
from wagi.guest.preview2.http_outbound import PendingResponse, RequestBody
from wagi.guest.preview2.streams import StreamClosedError, StreamFailedError
from wagi.guest.wasi.context import WaitReason
from wagi.guest.wasi.http_session import (
    ErrorCode,
    HttpClient,
    HttpSession,
    OutboundError,
    OutboundRequest,
    Response,
)

pytestmark = pytest.mark.fast


class Answer:
    """A response whose body has two pieces."""

    status = 200
    headers = [("X-A", "b"), ("Transfer-Encoding", "chunked")]  # noqa: RUF012 - of the protocol

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]
        self.is_closed = False

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        if self.pieces[0] == b"broken":
            raise OutboundError(ErrorCode.RUNTIME, "", HttpErrorCode.HTTP_RESPONSE_INCOMPLETE)
        return self.pieces.pop(0)

    def close(self) -> None:
        self.is_closed = True


class Client:
    """Sends no requests: it returns an answer."""

    max_open = 1

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def send(self, request: OutboundRequest) -> Response:
        return self.answer


async def opened(answer: Answer) -> tuple[PendingResponse, HttpSession]:
    session = HttpSession(Client(answer), lambda text: None)

    async def send(client: HttpClient) -> Response:
        return await client.send(OutboundRequest("GET", "http://a/", [], b""))

    pending = PendingResponse(session.open(send), session)
    with pytest.raises(OutboundError, match="http_max_concurrency"):
        session.open(send)
    return pending, session


async def until_ready(pending: PendingResponse) -> None:
    wait = WaitReason()
    pending.wait_on(wait)
    await asyncio.wait(wait.futures)
    assert pending.is_ready


def test_a_body_that_is_finished_early_is_sent_as_a_whole() -> None:
    body = RequestBody()
    body.write(b"a")
    assert body.whole() is None
    body.write(b"b")
    body.finish(())
    assert body.whole() == b"ab"


def test_a_body_streams() -> None:
    async def run() -> list[bytes]:
        body, seen = RequestBody(), []
        body.begin()
        body.write(bytes(body.check()))
        assert not body.is_ready
        wait = WaitReason()
        body.wait_on(wait)
        async for piece in body.pieces():
            seen.append(piece)
            if len(seen) == 1:
                assert body.is_ready
                assert wait.futures[0].done()
                body.write(b"last")
                body.finish(())
        with pytest.raises(StreamClosedError):
            body.write(b"more")
        return seen

    assert asyncio.run(run())[1:] == [b"last"]


def test_a_body_that_is_dropped_fails_the_request() -> None:
    async def run() -> None:
        body = RequestBody()
        body.begin()
        body.write(b"a")
        body.abandon()
        async for _ in body.pieces():
            raise AssertionError

    with pytest.raises(OutboundError) as caught:
        asyncio.run(run())
    assert caught.value.http_code is HttpErrorCode.HTTP_PROTOCOL_ERROR


def test_a_body_that_is_not_sent_waits_for_the_time_limit_only() -> None:
    wait = WaitReason()
    RequestBody().wait_on(wait)
    assert wait.wake_at is not None
    assert not wait.is_turn


def test_a_body_with_a_content_length() -> None:
    fields = ((b"content-length", b"3"),)
    code = HttpErrorCode.HTTP_REQUEST_BODY_SIZE
    body, sink = OutgoingBody(made := RequestBody(), fields, code), made
    body.write(b"ab")
    assert body.finish(()) == HttpError(code, 2)
    with pytest.raises(StreamClosedError):
        sink.check()
    body = OutgoingBody(sink := RequestBody(), fields, code)
    with pytest.raises(StreamFailedError) as caught:
        body.write(b"abcd")
    assert isinstance(caught.value.error, HttpIoError)
    assert caught.value.error.error == HttpError(code, 4)
    body = OutgoingBody(sink := RequestBody(), fields, code)
    body.write(b"abc")
    assert body.finish(()) is None
    assert sink.whole() == b"abc"


def test_a_response() -> None:
    async def run() -> None:
        answer = Answer(b"one", b"two")
        pending, session = await opened(answer)
        await until_ready(pending)
        response = pending.take()
        assert (response.status, response.headers) == (200, ((b"x-a", b"b"),))
        stream, seen = response.body, b""
        assert stream is not None
        assert stream.read(10) == b""
        while True:
            wait = WaitReason()
            stream.wait_on(wait)
            await asyncio.wait(wait.futures)
            assert stream.is_ready
            try:
                seen += stream.read(2)
            except StreamClosedError:
                break
        assert seen == b"onetwo"
        stream.close()
        stream.close()
        pending.close()
        assert answer.is_closed
        assert (await opened(answer))[1] is not session

    asyncio.run(run())


def test_a_response_that_breaks_off() -> None:
    async def run() -> None:
        pending, _ = await opened(Answer(b"broken"))
        await until_ready(pending)
        stream = pending.take().body
        assert stream is not None
        wait = WaitReason()
        stream.wait_on(wait)
        await asyncio.wait(wait.futures)
        with pytest.raises(StreamFailedError) as caught:
            stream.read(1)
        assert isinstance(caught.value.error, HttpIoError)
        assert caught.value.error.error == HttpError(HttpErrorCode.HTTP_RESPONSE_INCOMPLETE)

    asyncio.run(run())


def test_a_response_that_the_guest_never_takes_is_closed() -> None:
    async def run() -> None:
        answer = Answer()
        pending, session = await opened(answer)
        await until_ready(pending)
        pending.close()
        pending.close()
        assert answer.is_closed
        pending, session = await opened(answer)
        pending.close()
        session.close()

    asyncio.run(run())


def test_the_layout_of_an_error() -> None:
    assert HttpError(HttpErrorCode.CONNECTION_REFUSED).packed() == bytes((6,)) + bytes(31)
    packed = HttpError(HttpErrorCode.HTTP_RESPONSE_BODY_SIZE, 300).packed()
    assert packed == bytes((28, *[0] * 7, 1, *[0] * 7)) + (300).to_bytes(8, "little") + bytes(8)
