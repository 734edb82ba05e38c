"""An engine that answers at once: a short stream with usage. `python -m benchmarks.overhead.upstream PORT`."""

import asyncio
import sys

from aiohttp import web

from tests.e2e.routerkit.upstream import METRICS

_EVENTS = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"usage": {"input_tokens": 90000, "output_tokens": 1, "cache_read_input_tokens": 89000}}}\n\n',
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}\n\n',
    b'event: message_delta\ndata: {"type": "message_delta", "usage": {"output_tokens": 7}}\n\n',
)


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b"".join(_EVENTS), content_type="text/event-stream")


async def _metrics(_: web.Request) -> web.Response:
    """Caches that everything fits: nothing is held, as here only the way through is measured."""
    return web.Response(text=METRICS.replace('num_gpu_blocks="1000"', 'num_gpu_blocks="1000000"'))


async def main(port: int) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/{path:.*}", _answer)
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
