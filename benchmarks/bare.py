"""The baseline: an aiohttp handler that does nothing."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


async def _handle(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="Hello from C\n")


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(
        web.Server(_handle, access_log=None), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
