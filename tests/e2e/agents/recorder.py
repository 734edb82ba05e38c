"""A server on loopback that passes requests on to an engine and remembers them as they came."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
from aiohttp import ClientSession, ClientTimeout, web

from agentic_serving.program.request import Request

__all__ = ["recorded"]

#: Hop by hop (RFC 9110, 7.6.1), or about a body that aiohttp has taken apart.
_OWN = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "host",
    "accept-encoding",
}


@asynccontextmanager
async def recorded(engine: str, requests: list[Request]) -> AsyncIterator[str]:
    """The address to send requests for `engine` to; each is appended to `requests` when it has come as a whole."""
    async with ClientSession(timeout=ClientTimeout(total=None)) as session:

        async def pass_on(incoming: web.Request) -> web.StreamResponse:
            body = await incoming.read()
            requests.append(_request(incoming, body))
            headers = {k: v for k, v in incoming.headers.items() if k.lower() not in _OWN}
            async with session.request(
                incoming.method, f"{engine}{incoming.path_qs}", headers=headers, data=body
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OWN}
                outgoing = web.StreamResponse(status=answer.status, headers=kept)
                with suppress(ConnectionResetError):  # a client may leave once it has read the last event
                    await outgoing.prepare(incoming)
                    async for chunk in answer.content.iter_any():
                        await outgoing.write(chunk)
                    await outgoing.write_eof()
                return outgoing

        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def _request(incoming: web.Request, body: bytes) -> Request:
    try:
        parsed: object = orjson.loads(body)
    except ValueError:
        parsed = None
    headers = {name.lower(): value for name, value in incoming.headers.items()}
    return Request(method=incoming.method, path=incoming.path_qs, headers=headers, body=parsed)
