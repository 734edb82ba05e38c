"""Asks the program schedulers of all stacks, twice a minute, and wakes what should say something new.

One list of router pods and one small page of each; a stack's state is kept in memory and rebuilt at start. Asking pods needs
no further right in the cluster (`pods/proxy` would let the operator speak to every pod), only a way to their port.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from agentic_serving import names
from agentic_serving.clock import Clock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.controller.board import Board
from agentic_serving.controller.keys import Key
from agentic_serving.controller.pods import container_started, container_trouble
from agentic_serving.controller.queue import WorkQueue
from agentic_serving.controller.references import References
from agentic_serving.controller.reports import PodAnswer, StackReport, stack_report
from agentic_serving.errors import ClusterError

__all__ = ["Pages", "Reports", "Schedulers", "Silent", "Unreachable"]

_log = logging.getLogger(__name__)
#: Pods asked at once.
_AT_ONCE = 32
_CONTAINER = "scheduler"
#: A scheduler listens after a second, on a busy node after some; a router pod is ready without it.
_START_S = 20.0
_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.COMPONENT_LABEL}=router"


class Unreachable(Exception):
    """No connection came about in time."""


class Silent(Exception):
    """There is a way to the pod, and no answer."""


class Pages(Protocol):
    """A scheduler's report."""

    async def programs(self, address: str) -> Mapping[str, Any]:
        """`GET /v1/programs` of the pod with that address.

        Raises:
            Silent, Unreachable: with what happened, in words.
        """
        ...


class Reports:
    """What is known of each stack's scheduler."""

    def __init__(self) -> None:
        self._by_stack: dict[Key, StackReport] = {}

    def get(self, stack: Key) -> StackReport | None:
        """None: it has not been asked yet."""
        return self._by_stack.get(stack)

    def put(self, stack: Key, report: StackReport) -> bool:
        """Whether it differs from the one before."""
        changed = self._by_stack.get(stack) != report
        self._by_stack[stack] = report
        return changed

    def keep_only(self, stacks: set[Key]) -> None:
        for gone in set(self._by_stack) - stacks:
            del self._by_stack[gone]


class Schedulers:
    """The loop."""

    def __init__(
        self,
        cluster: Cluster,
        pages: Pages,
        *,
        board: Board,
        reports: Reports,
        references: References,
        queue: WorkQueue,
        clock: Clock,
        namespaces: tuple[str, ...],
        look_s: float,
    ) -> None:
        """`look_s`: between two looks; statuses are paced by their own interval, whatever comes of it."""
        self._cluster = cluster
        self._pages = pages
        self._board = board
        self._reports = reports
        self._references = references
        self._queue = queue
        self._clock = clock
        self._namespaces = namespaces
        self._look_s = look_s
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.look()
            except ClusterError as error:
                _log.info("cannot list router pods", extra={"error": str(error)})
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Ask every scheduler once.

        Raises:
            ClusterError: the pods could not be listed.
        """
        # A refused spec stops nothing: the router of the one before runs on, and its scheduler has something to say.
        stacks = {key for key, view in self._board.items() if view.scheduling != "Off"}
        self._reports.keep_only(stacks)
        if not stacks:
            return
        pods = await self._pods()
        await asyncio.gather(*(self._look_at(stack, pods[stack]) for stack in sorted(stacks)))

    async def _pods(self) -> Mapping[Key, list[Manifest]]:
        """Router pods that are not being deleted, by stack."""
        found: dict[Key, list[Manifest]] = defaultdict(list)
        by_uid = {view.uid: key for key, view in self._board.items()}
        for namespace in self._namespaces or (None,):
            listing = await self._cluster.list(kinds.POD, namespace, label_selector=_SELECTOR)
            for pod in listing.items:
                metadata = pod["metadata"]
                if "deletionTimestamp" not in metadata:
                    key = by_uid.get((metadata.get("labels") or {}).get(names.OWNER_UID_LABEL, ""))
                    if key is not None:
                        found[key].append(pod)
        return found

    async def _look_at(self, stack: Key, pods: list[Manifest]) -> None:
        asked = await asyncio.gather(*(self._ask(pod) for pod in pods))
        answers = [one for one in asked if one is not None]
        if {one.outcome for one in answers} == {"Starting"}:
            return  # what is known stays until the next look, which knows more
        old = self._reports.get(stack)
        report = stack_report(answers, old.programs if old else {})
        if self._reports.put(stack, report):
            self._queue.add(stack)
            for program in self._references.referrers(stack):
                self._queue.add(program)

    async def _ask(self, pod: Manifest) -> PodAnswer | None:
        """None: the pod is only starting."""
        name, status = str(pod["metadata"]["name"]), pod.get("status") or {}
        trouble = container_trouble(pod, _CONTAINER)
        if trouble:
            return PodAnswer(pod=name, outcome="Failing", said=trouble)
        address = status.get("podIP")
        if not address or not _ready(status):
            return None
        async with self._slots:
            try:
                return PodAnswer(pod=name, outcome="Answered", said=await self._pages.programs(address))
            except Silent as error:
                outcome: Literal["Starting", "Silent"] = "Starting" if self._starts(pod) else "Silent"
                return PodAnswer(pod=name, outcome=outcome, said=str(error))
            except Unreachable as error:
                return PodAnswer(pod=name, outcome="Unreachable", said=str(error))

    def _starts(self, pod: Manifest) -> bool:
        started = container_started(pod, _CONTAINER)
        return started is not None and (self._clock.now() - started).total_seconds() < _START_S


def _ready(status: Mapping[str, Any]) -> bool:
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
