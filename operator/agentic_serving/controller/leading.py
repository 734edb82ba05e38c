"""What the leader does: list everything, then watch and work until it is cancelled."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from random import Random

from agentic_serving.clock import Clock
from agentic_serving.cluster.port import Cluster
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.board import Board
from agentic_serving.controller.census import Census, Schedule, trims
from agentic_serving.controller.context import Parts, Served
from agentic_serving.controller.health import Health, Vitals
from agentic_serving.controller.intake import Intake
from agentic_serving.controller.keys import OWN_KINDS
from agentic_serving.controller.metrics import Metrics, WatchedCondition
from agentic_serving.controller.pages import HttpPages
from agentic_serving.controller.queue import WorkQueue
from agentic_serving.controller.reconcile import Reconciler
from agentic_serving.controller.recorder import Recorder
from agentic_serving.controller.references import References
from agentic_serving.controller.schedulers import Pages, Reports, Schedulers
from agentic_serving.controller.source import Source
from agentic_serving.controller.status import StatusWriter
from agentic_serving.controller.worker import Workers
from agentic_serving.errors import ClusterError
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.plan import Plan
from agentic_serving.settings import OperatorSettings

__all__ = ["Leading"]

_log = logging.getLogger(__name__)
#: Between tries to load. Short: a CRD that was just installed answers 429 for a second or two.
_LOAD_AGAIN_S = 1.0
#: From the start of the watches to the list that finds what was deleted just before it.
_SETTLE_S = 30.0
#: Between restarts of the watches after they ended by themselves.
_WATCH_AGAIN_S = 5.0


class Leading:
    """The controller, put together."""

    def __init__(
        self,
        settings: OperatorSettings,
        cluster: Cluster,
        source: Source,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        health: Health,
        render: Callable[[RenderInputs], Plan],
        fresh: Callable[[], bool],
        pages: Pages | None = None,
    ) -> None:
        """`pages`: how schedulers are asked; None: by HTTP."""
        self._settings = settings
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._health = health

        def unique() -> str:
            return f"{rng.getrandbits(64):016x}"

        self.store = ObjectStore(trim=trims())
        self.queue = WorkQueue(clock, rng)
        references = References()
        served = Served()
        self.intake = Intake(self.store, references, self.queue, clock, coalesce_s=settings.coalesce_s)
        self.census = Census(
            cluster,
            self.store,
            self.intake,
            self.queue,
            served,
            namespaces=settings.namespaces,
            schedule=_schedule(settings),
            clock=clock,
            rng=rng,
        )
        recorder = Recorder(cluster, clock, identity=settings.identity, unique=unique)
        status = StatusWriter(cluster, self.store, clock, recorder, interval_s=settings.status_interval_s)
        board, reports = Board(), Reports()
        self.schedulers = Schedulers(
            cluster,
            pages or HttpPages(),
            board=board,
            reports=reports,
            references=references,
            queue=self.queue,
            clock=clock,
            namespaces=settings.namespaces,
            look_s=settings.scheduler_look_s,
        )
        self.reconciler = Reconciler(
            Parts(
                cluster=cluster,
                store=self.store,
                references=references,
                queue=self.queue,
                board=board,
                reports=reports,
                served=served,
                status=status,
                clock=clock,
                render=render,
                fresh=fresh,
                scheduler_image=settings.scheduler_image,
                pod_report_after_s=settings.pod_report_after_s,
            )
        )
        self.workers = Workers(self.queue, self.reconciler, metrics, clock, unique)
        self._measure()

    async def run(self) -> None:
        """Lead until cancelled."""
        self._metrics.leader.set(1)
        try:
            await self._load()
            self._health.vitals = self._vitals
            async with asyncio.TaskGroup() as group:
                group.create_task(self.workers.run(self._settings.workers), name="workers")
                group.create_task(self._watch(), name="watch")
                group.create_task(self.census.run(), name="census")
                group.create_task(self.schedulers.run(), name="schedulers")
        finally:
            self._metrics.leader.set(0)
            self._health.vitals = None

    async def _load(self) -> None:
        """List everything, as often as it takes: the CRDs may be installed after us."""
        while True:
            try:
                await self.census.load()
            except ClusterError as error:
                self._health.why_not_ready = str(error)
                _log.warning("cannot load the cluster yet", extra={"error": str(error)})
                await asyncio.sleep(error.retry_after_s or _LOAD_AGAIN_S)
            else:
                self._health.why_not_ready = ""
                _log.info("loaded", extra={"objects": len(self.store)})
                return

    async def _watch(self) -> None:
        """Keep watches on everything that can be read, and begin anew when that changes or they end."""
        while True:
            self.census.changed.clear()
            watching = asyncio.create_task(
                self._source.run(self.census.watch_plan(), self.intake.deliver, self.census.watching)
            )
            changed = asyncio.create_task(self.census.changed.wait())
            try:
                await asyncio.wait({watching, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                ended_by_itself = watching.done()
                watching.cancel()
                (result,) = await asyncio.gather(watching, return_exceptions=True)
            self._metrics.watch_restarts.inc()
            if ended_by_itself:
                _log.warning("watches ended; starting again", extra={"error": str(result)})
                await asyncio.sleep(_WATCH_AGAIN_S)

    def _vitals(self) -> Vitals:
        heard = [*self.intake.last_event_s.values(), self.census.listed_s or 0.0]
        return Vitals(
            oldest_s=self.queue.oldest_s(),
            running=self.queue.running(),
            last_beat_s=self.workers.last_beat_s,
            last_seen_s=max(heard),
        )

    def _measure(self) -> None:
        metrics = self._metrics
        metrics.gauge(
            "agentic_serving_workqueue_depth", "Keys that are due.", lambda: float(self.queue.depth())
        )
        metrics.gauge(
            "agentic_serving_workqueue_oldest_seconds",
            "For how long the oldest key has been due.",
            self.queue.oldest_s,
        )
        metrics.gauge(
            "agentic_serving_store_objects", "Objects held in memory.", lambda: float(len(self.store))
        )
        metrics.gauge(
            "agentic_serving_store_bytes",
            "Bytes of the objects held.",
            lambda: float(self.store.compressed_bytes),
        )
        metrics.conditions(lambda: _conditions(self.store))
        metrics.watches(self._last_events)

    def _last_events(self) -> dict[str, float]:
        now, now_s = self._clock.now().timestamp(), self._clock.monotonic_s()
        return {kind: now - (now_s - at_s) for kind, at_s in self.intake.last_event_s.items()}


def _schedule(settings: OperatorSettings) -> Schedule:
    settle_s = min(_SETTLE_S, settings.resync_s, settings.discovery_s)
    return Schedule(resync_s=settings.resync_s, discovery_s=settings.discovery_s, settle_s=settle_s)


def _conditions(store: ObjectStore) -> Iterator[WatchedCondition]:
    for kind in OWN_KINDS.values():
        for obj in store.of_kind(kind):
            found: Iterable[dict[str, str]] = (obj.get("status") or {}).get("conditions") or ()
            for condition in found:
                yield WatchedCondition(kind.kind, condition.get("type", ""), condition.get("status", ""))
