"""Run `lmcache server` or `lmcache coordinator` until a signal ends it."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Sequence

from aiohttp import web

from agentic_serving.enginesim.lmcache.commandline import parse
from agentic_serving.enginesim.lmcache.coordinator import Coordinator
from agentic_serving.enginesim.lmcache.server import heartbeats, server_of

__all__ = ["run"]


def run(command: str, argv: Sequence[str]) -> None:
    """Serve."""
    options = parse(command, argv)
    if command == "coordinator":
        timeout_s = float(options.instance_timeout or 30.0)
        app = Coordinator(timeout_s=timeout_s).application()
        asyncio.run(_serve([(app, options.host, int(options.port or 9300))]))
        return
    server = server_of(options)
    places = [
        (server.outside(), options.http_host or "127.0.0.1", int(options.http_port or 8080)),
        (server.requests(), options.host or "localhost", int(options.port or 5555)),
    ]
    beat = None
    if options.coordinator_url:
        beat = heartbeats(server, options.coordinator_url, options.coordinator_advertise_ip or "")
    asyncio.run(_serve(places, beat))


async def _serve(
    places: Sequence[tuple[web.Application, str | None, int]],
    beat: Coroutine[object, object, None] | None = None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        for app, host, port in places:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, host, port).start()
        task = asyncio.ensure_future(beat) if beat is not None else None
        await stop.wait()
        if task is not None:
            task.cancel()
