"""Alive is who makes progress; ready is who leads, or could. Served with the metrics on one port."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from agentic_serving.clock import Clock
from agentic_serving.controller.metrics import Metrics

__all__ = ["Health", "Server", "Vitals"]

#: A pass takes seconds; one that hangs is ended by the port's own time limit of 30 s per request. Ten of those.
_STUCK_S = 300.0
#: Resyncs in a row that may be missed: the API server may be away for one, or being upgraded.
_MISSED_RESYNCS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What health is judged by; times in seconds on the monotonic clock."""

    oldest_s: float  # for how long the oldest key has been due
    running: int  # keys being worked on
    last_beat_s: float  # when a worker last took or finished a key
    last_seen_s: float  # when an event or a list last told anything about the cluster


@dataclass(slots=True)
class Health:
    """The state of the process.

    Attributes:
        vitals: read while we lead and the cluster has been loaded; None before.
        why_not_ready: what is still missing; empty when ready.
    """

    clock: Clock
    resync_s: float
    vitals: Callable[[], Vitals] | None = None
    why_not_ready: str = field(default="starting")

    def sick(self) -> str:
        """What is stuck; empty if nothing is. A standby is alive."""
        if self.vitals is None:
            return ""
        now_s, seen = self.clock.monotonic_s(), self.vitals()
        if seen.oldest_s > _STUCK_S and now_s - seen.last_beat_s > _STUCK_S:
            return f"a key has been due for {seen.oldest_s:.0f} s and no worker takes it"
        if seen.running and now_s - seen.last_beat_s > 2 * _STUCK_S:
            return f"no worker has finished anything for {now_s - seen.last_beat_s:.0f} s"
        if now_s - seen.last_seen_s > _MISSED_RESYNCS * self.resync_s:
            return f"nothing has been heard of the cluster for {now_s - seen.last_seen_s:.0f} s"
        return ""


class Server:
    """/metrics, /healthz and /readyz."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self.port = 0  # where it listens, once it has started

    async def start(self, address: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_health)
        app.router.add_get("/readyz", self._serve_ready)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _serve_health(self, _: web.Request) -> web.Response:
        return _answer(self._health.sick())

    async def _serve_ready(self, _: web.Request) -> web.Response:
        return _answer(self._health.why_not_ready)


def _answer(complaint: str) -> web.Response:
    return web.Response(status=503 if complaint else 200, text=complaint or "ok")
