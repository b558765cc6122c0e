"""Baselines: aiohttp handlers without any guest.

python -m benchmarks.bare            one that does nothing
python -m benchmarks.bare parsing    one that builds the variables and parses CGI output
python -m benchmarks.bare echo       one that sends back the body
python -m benchmarks.bare streaming  one that sends 10 MiB
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from wagi.cgi.environment import RequestHead, RouteVariables
from wagi.cgi.response import ResponseParser

_OUTPUT = b"Content-Type: text/plain\n\nHello from C\n"
_VARIABLES = RouteVariables.prepare("/hello", "/hello", {})
_PIECE = bytes(64 * 1024)


async def _nothing(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="Hello from C\n")


async def _parsing(request: web.BaseRequest) -> web.StreamResponse:
    head = RequestHead(
        request.method,
        request.path,
        request.query_string,
        "HTTP/1.1",
        request.raw_headers,
        0,
        "http",
        "localhost",
        "80",
        "127.0.0.1",
        "50000",
        "127.0.0.1",
    )
    _VARIABLES.environment(head, "")
    parser = ResponseParser(65536)
    parser.feed(_OUTPUT)
    parsed, body = parser.end(), parser.take_body()
    headers = [(name.decode(), value.decode()) for name, value in parsed.headers]
    return web.Response(status=parsed.status, headers=headers, body=body)


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=await request.read(), content_type="text/plain")


async def _streaming(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(160):
        await response.write(_PIECE)
    await response.write_eof()
    return response


_HANDLERS = {"": _nothing, "parsing": _parsing, "echo": _echo, "streaming": _streaming}


async def _main(handler: str) -> None:
    server = await asyncio.get_running_loop().create_server(
        web.Server(_HANDLERS[handler], access_log=None), "127.0.0.1", 0, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main("".join(sys.argv[1:2])))
