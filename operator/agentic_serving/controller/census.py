"""What is there: which kinds are served and readable, and every object of them, listed at start and again and again.

Watches tell most things in time; a list tells all of them late. kopf loses deletions that happen while a stream
is broken (docs/decisions/0001), so the list is what makes the controller right, and the watch what makes it fast.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from agentic_serving import names
from agentic_serving.clock import Clock
from agentic_serving.cluster.port import Cluster, Kind, Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.context import Served
from agentic_serving.controller.intake import Intake
from agentic_serving.controller.keys import OWN_KINDS, Key
from agentic_serving.controller.queue import WorkQueue
from agentic_serving.controller.source import WatchPlan
from agentic_serving.errors import ClusterError, Expired, Forbidden, NotFound
from agentic_serving.render.emitted import EMITTED_KINDS

__all__ = ["Census", "Schedule", "trims"]

_log = logging.getLogger(__name__)

_CHILD_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE}"
#: A list that expires this often is starved; the next round tries again.
_MAX_ATTEMPTS = 3
#: All keys are looked at again within this share of the interval, not at once.
_SPREAD = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often to look, in seconds."""

    resync_s: float
    discovery_s: float
    settle_s: float = 30.0  # after watches began: what was deleted between our list and theirs


@dataclass(slots=True)
class _Known:
    readable: frozenset[Kind] = frozenset()
    complained: set[Kind] = field(default_factory=set)


class Census:
    """Keeps the store whole."""

    def __init__(
        self,
        cluster: Cluster,
        store: ObjectStore,
        intake: Intake,
        queue: WorkQueue,
        served: Served,
        *,
        namespaces: tuple[str, ...],
        schedule: Schedule,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._intake = intake
        self._queue = queue
        self._served = served
        self._namespaces = namespaces
        self._schedule = schedule
        self._clock = clock
        self._rng = rng
        self._known = _Known()
        self._soon = asyncio.Event()
        self.changed = asyncio.Event()  # what to watch is not what it was
        self.listed_s: float | None = None  # when everything was last listed

    def watch_plan(self) -> WatchPlan:
        """Everything that can be read now."""
        readable = sorted(self._known.readable, key=str)
        return WatchPlan(
            selectors={kind: "" if kind.kind in OWN_KINDS else _CHILD_SELECTOR for kind in readable},
            namespaces=self._namespaces,
        )

    def watching(self) -> None:
        """The watches began: list again soon, for what was deleted in between."""
        self._soon.set()

    async def load(self) -> None:
        """Discover and list everything.

        Raises:
            NotFound: one of our own kinds is not served; its CRD is to be installed.
            ClusterError: the API server did not answer.
        """
        await self.discover()
        missing = [kind for kind in OWN_KINDS.values() if not self._served.has(kind)]
        if missing:
            raise NotFound(f"the CRDs of {', '.join(map(str, missing))} are not installed", code=404)
        await self._list_all()

    async def discover(self) -> None:
        """Look which kinds are served; stacks are rendered anew where that changed."""
        found = await self._cluster.served()
        relevant = frozenset(k.gvk for k in (*OWN_KINDS.values(), *EMITTED_KINDS)) & found
        if relevant == self._served.kinds:
            return
        self._served.kinds = relevant
        self._enqueue_all(spread_s=0.0)

    async def run(self) -> None:
        """Look again on schedule, until cancelled."""
        while True:
            await self.look(everything=await self._sleep())

    async def look(self, *, everything: bool = False) -> None:
        """One look: what is served, and where it is time, or asked for, all objects. Failures are made good next time."""
        now_s = self._clock.monotonic_s()
        due = self.listed_s is None or now_s - self.listed_s >= self._schedule.resync_s
        try:
            await self.discover()
            if due or everything or self._served_but_unread():
                await self._list_all()
        except ClusterError as error:
            _log.warning("could not look at the whole cluster", extra={"error": str(error)})
            return
        if due:
            self._enqueue_all(spread_s=self._schedule.resync_s * _SPREAD)

    async def _sleep(self) -> bool:
        """Until the next look, with jitter; True if it was asked for."""
        timeout_s = self._schedule.discovery_s * (0.9 + 0.2 * self._rng.random())
        try:
            async with asyncio.timeout(timeout_s):
                await self._soon.wait()
        except TimeoutError:
            return False
        self._soon.clear()
        await asyncio.sleep(self._schedule.settle_s)
        return True

    def _served_but_unread(self) -> bool:
        return {k.gvk for k in self._known.readable} != self._served.kinds

    async def _list_all(self) -> None:
        readable = set()
        for kind in (*OWN_KINDS.values(), *EMITTED_KINDS):
            if self._served.has(kind) and await self._list_kind(kind):
                readable.add(kind)
        self.listed_s = self._clock.monotonic_s()
        if readable != self._known.readable:
            self._known.readable = frozenset(readable)
            self.changed.set()

    async def _list_kind(self, kind: Kind) -> bool:
        """Whether the kind could be listed; what cannot be read is left out, and said once."""
        try:
            for namespace in self._namespaces or (None,):
                await self._list_whole(kind, namespace)
        except (Forbidden, NotFound) as error:
            if kind.kind in OWN_KINDS:
                raise  # to work without programs or policies would take them away from the stacks
            if kind not in self._known.complained:
                self._known.complained.add(kind)
                _log.warning("cannot read a kind", extra={"resource": str(kind), "error": str(error)})
            return False
        self._known.complained.discard(kind)
        return True

    async def _list_whole(self, kind: Kind, namespace: str | None) -> None:
        for _ in range(_MAX_ATTEMPTS - 1):
            try:
                return await self._list_once(kind, namespace)
            except Expired:
                continue
        return await self._list_once(kind, namespace)

    async def _list_once(self, kind: Kind, namespace: str | None) -> None:
        selector = "" if kind.kind in OWN_KINDS else _CHILD_SELECTOR
        seen: set[tuple[str, str]] = set()
        version = ""
        async for page in self._cluster.pages(kind, namespace, label_selector=selector):
            self._intake.listed(kind, page.items)
            seen |= {(i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in page.items}
            version = page.resource_version
            await asyncio.sleep(0)  # others wait for the loop meanwhile
        held = {
            name: self._store.get(kind, *name)
            for name in self._store.keys(kind, namespace)
            if name not in seen
        }
        for name in self._store.keep_only(kind, namespace, seen, version):
            gone = held.get(name)
            if gone is not None:
                self._intake.vanished(kind, gone)

    def _enqueue_all(self, *, spread_s: float) -> None:
        for kind in OWN_KINDS.values():
            for namespace, name in self._store.keys(kind):
                self._queue.add(Key(kind.kind, namespace, name), after_s=spread_s * self._rng.random())


def trims() -> Mapping[Kind, Callable[[Manifest], Manifest]]:
    """What the store keeps of each kind: of field ownership only ours, which comparing needs."""
    return dict.fromkeys((*OWN_KINDS.values(), *EMITTED_KINDS), _without_others)


def _without_others(obj: Manifest) -> Manifest:
    metadata = obj["metadata"]
    entries = metadata.get("managedFields") or ()
    ours = [e for e in entries if e.get("manager") == names.FIELD_MANAGER and e.get("operation") == "Apply"]
    return {**obj, "metadata": {**metadata, "managedFields": ours}}
