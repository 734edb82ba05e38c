"""The scheduler as a process: what is made of what, and in which order it starts and stops.

It serves before it knows the cluster, and before it has imported its client: until pods are known every call goes at
once. SIGTERM lets all held calls go, so that no request fails by our end.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from random import Random

from aiohttp import web

from agentic_serving import logs
from agentic_serving.clock import Clock
from agentic_serving.cluster.port import Cluster
from agentic_serving.errors import InvalidInput
from agentic_serving.router import declarations, memory, server
from agentic_serving.router.active import Active
from agentic_serving.router.config import Config
from agentic_serving.router.desk import Desk
from agentic_serving.router.history import History
from agentic_serving.router.kvwatch import LOOK_S, CacheWatch, Looked
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.pods import Pods
from agentic_serving.router.reload import ConfigFile
from agentic_serving.router.report import Report
from agentic_serving.router.settings import SchedulerSettings
from agentic_serving.router.spans import Spans, spans_from_env
from agentic_serving.router.state import PASSWORD_VARIABLE, State, open_state
from agentic_serving.router.subset import subset
from agentic_serving.router.warmer import Warmer
from agentic_serving.router.web import Site, make_app
from agentic_serving.router.words import Listener, Pod, Usage

__all__ = ["run"]

_log = logging.getLogger(__name__)


async def run(
    settings: SchedulerSettings, *, clock: Clock, rng: Random, cluster: Cluster | None = None
) -> int:
    """Run until told to stop; the result is the exit code.

    Args:
        rng: jitter; nothing secret.
        cluster: instead of the one that the settings name.
    """
    logs.set_up(settings.log_level, settings.log_format)
    memory.keep_heap()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    file = ConfigFile(settings.path, time_scale=settings.time_scale)
    async with AsyncExitStack() as closing:
        try:
            config = file.read()
            process = _Process(settings, config, file, clock)
            await process.start(closing)
            _log.info("serving", extra={"stack": config.stack, "mode": config.mode, "grpc": process.port})
            cluster = cluster or await _connect(settings)
        except InvalidInput as error:
            _log.error("cannot start", extra={"error": str(error)})
            return 2
        except (OSError, RuntimeError) as error:
            _log.error("cannot listen", extra={"error": str(error)})
            return 2
        closing.push_async_callback(cluster.close)
        memory.spare_old_objects()
        return await process.until(stop, cluster, rng)


async def _connect(settings: SchedulerSettings) -> Cluster:
    """The Kubernetes client takes a third of the start to import: calls are answered meanwhile."""
    kube = await asyncio.to_thread(import_module, "agentic_serving.cluster.kube")
    cluster: Cluster = await kube.connect(settings.kubeconfig, settings.context)
    return cluster


class _Process:
    """Everything of one scheduler."""

    def __init__(
        self,
        settings: SchedulerSettings,
        config: Config,
        file: ConfigFile,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._config = config
        self._file = file
        self._clock = clock
        self.metrics = Metrics(config)
        self.report = Report(config)
        self.history = History()
        self.spans: Spans | None = spans_from_env(os.environ, config)
        self.state: State = open_state(config, os.environ.get(PASSWORD_VARIABLE), clock)
        listeners: list[Listener] = [self.metrics, self.report, self.history, self.state.journal]
        if self.spans is not None:
            listeners.append(self.spans)
        self.desk = Desk(config, listeners=listeners, service=self.state.service, hint=subset)
        self.desk.on_error(self._listener_failed)
        self._warmer = Warmer(self._warmed)
        self.desk.warm = self._warmer.begin
        self._pods: Pods | None = None  # until there is a cluster to ask
        self._seen: list[Pod] = []
        self._active = False
        self.site = Site(
            config=config,
            metrics=self.metrics,
            report=self.report,
            history=self.history,
            view=self.desk,
            clock=clock.monotonic_s,
            ready=self._why_not_ready,
            active=lambda: self._active,
            store=lambda: self.state.problem if self._active else "",
        )
        self.server: server.Server | None = None

    @property
    def port(self) -> int:
        return self.server.port if self.server else 0

    async def start(self, closing: AsyncExitStack) -> None:
        """Listens; from here on calls are answered."""
        self.metrics.view(self.desk, clock=self._clock.monotonic_s)
        self.metrics.state(lambda: self.state.counters)
        self.server = await server.serve(
            self.desk,
            port=self._settings.grpc_port,
            address=self._settings.grpc_address,
            clock=self._clock.monotonic_s,
            count_mishap=self.metrics.error,
            active=False,
        )
        closing.push_async_callback(self._close)
        closing.push_async_callback(self.server.stop)
        hints = declarations.routes(
            self.desk, self._clock.monotonic_s, active=lambda: self._active, deliver=self.server.deliver
        )
        runner = web.AppRunner(make_app(self.site, hints), access_log=None)
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._settings.http_address, self._settings.http_port).start()

    async def until(self, stop: asyncio.Event, cluster: Cluster, rng: Random) -> int:
        """0: asked to stop. 1: a part ended by itself, which is a bug; the keeper starts us again."""
        pods = Pods(cluster, self._config, self._pods_changed, rng=rng, mishap=self.metrics.error)
        active = Active(self._settings, self._config, cluster, self._clock, begin=self._begin, end=self._end)
        self._pods = pods
        parts = [active.run(), pods.run(), pods.scraper.run(), self._reload(), self._watch_caches()]
        tasks = [asyncio.create_task(part) for part in parts]
        asked = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {asked}:
            _log.error("a part of the scheduler ended", exc_info=task.exception())
        for task in (asked, *tasks):
            task.cancel()
        await asyncio.gather(asked, *tasks, return_exceptions=True)
        return 0 if asked in done else 1

    async def _close(self) -> None:
        await self._warmer.close()
        await self.state.close()
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)

    async def _begin(self) -> None:
        loaded = await self.state.load(self.desk, self._deliver)
        await self._set_active(active=True)
        _log.info("active", extra={"restored": loaded.restored, "pending": loaded.pending})

    async def _end(self) -> None:
        await self._set_active(active=False)
        await self.state.release()

    async def _set_active(self, *, active: bool) -> None:
        self._active = active
        self.metrics.active(active=active)
        if self.server is not None:
            await self.server.set_active(active)

    def _deliver(self, words: Sequence[object]) -> None:
        if self.server is not None:
            self.server.deliver(words)  # type: ignore[arg-type] # as the desk said them

    def _warmed(self, usage: Usage) -> None:
        try:
            self._deliver(self.desk.warmed(usage, self._clock.monotonic_s()))
        except Exception as error:  # noqa: BLE001 - as of any other news (`delivery`)
            self.metrics.error("desk")
            _log.error("the end of a warm-up", exc_info=error)

    def _pods_changed(self, pods: list[Pod]) -> None:
        self._seen = pods
        self._deliver(self.desk.pods(pods, self._clock.monotonic_s()))

    async def _watch_caches(self) -> None:
        watch = CacheWatch(self._caches_seen)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                # A standby has no turns to tell from others', and counts nothing.
                await watch.look(self.site.config.cache_events if self._active else None, self._seen)
        finally:
            watch.close()

    def _caches_seen(self, looked: Looked) -> None:
        before = self.desk.scheduler.others_tokens
        self._deliver(self.desk.caches(looked.news, self._clock.monotonic_s()))
        others = self.desk.scheduler.others_tokens - before
        self.metrics.caches(looked.news, read=looked.read, unreadable=looked.unreadable, others_tokens=others)
        if looked.unreadable:
            self.metrics.error("kv_events")

    async def _reload(self) -> None:
        while True:
            await asyncio.sleep(self._settings.reload_s)
            try:
                config = self._file.changed()
            except InvalidInput as error:
                self.metrics.config_read(ok=False)
                _log.error("the configuration stays as it was", extra={"error": str(error)})
                continue
            if config is not None:
                self._use(config)

    def _use(self, config: Config) -> None:
        self.metrics.config_read(ok=True)
        self.metrics.configure(config)
        self.report.configure(config)
        self.site.config = config
        self._deliver(self.desk.configure(config, self._clock.monotonic_s()))
        _log.info("configured", extra={"mode": config.mode, "programs": len(config.programs)})

    def _why_not_ready(self) -> str:
        return "" if self._pods is not None and self._pods.listed else "the stack's pods are not known yet"

    def _listener_failed(self, error: Exception) -> None:
        self.metrics.error("listener")
        _log.error("a listener failed", exc_info=error)
