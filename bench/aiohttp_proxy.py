"""The reference proxy in aiohttp: relays as it comes, one session. `python -m bench.aiohttp_proxy PORT UPSTREAM`."""

import sys

import aiohttp
import uvloop
from aiohttp import web

_DROPPED = {"host", "content-length", "connection", "transfer-encoding", "x-api-key"}


async def relay(request: web.Request) -> web.StreamResponse:
    session: aiohttp.ClientSession = request.app["session"]
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
    body = await request.read()
    async with session.request(
        request.method, sys.argv[2] + request.path_qs, data=body, headers=headers | {"x-api-key": "x"}
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
        response = web.StreamResponse(status=answer.status, headers=kept)
        if answer.content_length is not None:
            response.content_length = answer.content_length
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def main() -> web.Application:
    app = web.Application(client_max_size=64 << 20)

    async def session(app: web.Application):
        app["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        yield
        await app["session"].close()

    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", relay)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(main(), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, backlog=4096)
