"""`enginesim serve`: run one engine until SIGTERM, and end it as vLLM does."""

import asyncio
import contextlib
import logging
import signal

from aiohttp import web

from agentic_serving.enginesim.app import application
from agentic_serving.enginesim.build import Built, build
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.options import ServeOptions
from agentic_serving.enginesim.pace import pacer

__all__ = ["serve"]

log = logging.getLogger(__name__)


async def serve(options: ServeOptions, knobs: Knobs, *, render_only: bool = False) -> None:
    """Serve until SIGTERM or SIGINT.

    `--shutdown-timeout 0` aborts what runs; otherwise it may finish within that time. Meanwhile the port stays open and
    /health says 200, but a new request is answered with an empty, aborted answer: keeping requests away is the router's
    work (vLLM 0.33.0: vllm/entrypoints/launchers/launcher.py, vllm/v1/engine/core.py, _reject_add_in_shutdown).
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.sleep(knobs.startup_s)
    built = build(options, knobs, pacer(knobs.time_scale))
    async with contextlib.AsyncExitStack() as stack:
        await _start(built, options, knobs, stack, render_only=render_only)
        log.info("serving %s on port %d", ", ".join(options.served_names), options.port)
        await stop.wait()
        log.info(
            "shutting down: %d requests, timeout %g s", len(built.engine.live()), options.shutdown_timeout_s
        )
        built.service.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(options.shutdown_timeout_s):
                await built.engine.drained()
        built.engine.abort_all()
        await asyncio.sleep(0)  # the handlers write their last chunks; the runner's cleanup waits for them


async def _start(
    built: Built, options: ServeOptions, knobs: Knobs, stack: contextlib.AsyncExitStack, *, render_only: bool
) -> None:
    app = application(built.service, built.metrics.registry, knobs, render_only=render_only)
    steps = asyncio.create_task(built.engine.run())
    stack.push_async_callback(_cancelled, steps)
    stack.push_async_callback(built.transfer.close)
    if built.events is not None:
        stack.push_async_callback(built.events.close)
    if built.lmcache is not None:
        stack.push_async_callback(built.lmcache.close)
    await _listen(app, options.host, options.port, stack, keep_alive_s=knobs.keep_alive_s)
    if built.transfer.connectors.p2p is not None:
        host = None if knobs.side_channel_host == "localhost" else knobs.side_channel_host
        await _listen(built.transfer.application(), host, knobs.side_channel_port, stack)


async def _listen(
    app: web.Application,
    host: str | None,
    port: int,
    stack: contextlib.AsyncExitStack,
    keep_alive_s: float = 5.0,
) -> None:
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, keepalive_timeout=keep_alive_s, shutdown_timeout=1.0
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
