"""A handler of wasi:http for componentize-py."""

import json
import time

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import InputStream, OutputStream, StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = request.path_with_query() or ""
        if path == "/nothing":
            return
        if path == "/throw":
            raise ValueError("on purpose")
        fields = Fields()
        fields.append("x-language", b"python")
        response = OutgoingResponse(fields)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as output:
            if path == "/echo":
                copy(request, output)
            elif path == "/sleep":
                time.sleep(0.3)
                output.blocking_write_and_flush(b"slept\n")
            else:
                output.blocking_write_and_flush(json.dumps({"path": path}).encode())
        OutgoingBody.finish(body, None)


def copy(request: IncomingRequest, output: OutputStream) -> None:
    with request.consume() as body, body.stream() as source:
        while piece := read(source):
            output.blocking_write_and_flush(piece)


def read(source: InputStream) -> bytes:
    try:
        return source.blocking_read(4096)
    except Err as error:
        if isinstance(error.value, StreamError_Closed):
            return b""
        raise
