"""Leader election over a Lease: at most one elector of a name believes that it leads.

The rules are client-go's (`tools/leaderelection`): a leader renews every `retry_period_s` and gives up after
`renew_deadline_s` without success; others take over when the record has not changed for `lease_duration_s` by
their own clock, so clocks need not agree, only run at about the same speed. The official Python client's elector
is not used: it reads the wall clock, does not release, and ends on a broken connection.
Not fenced: a request that a paused leader sent before it learnt of its loss. Hence `fresh`, asked before deletions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentic_serving.clock import Clock
from agentic_serving.cluster.kinds import LEASE
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.errors import ClusterError, Conflict, InvalidInput, NotFound, Unavailable

__all__ = ["LeaseElector", "LeaseTimings"]

_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimings:
    """Defaults of client-go and of every Kubernetes controller.

    Raises:
        InvalidInput: a leader would not notice its loss before another may take over.
    """

    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_period_s < self.renew_deadline_s < self.lease_duration_s:
            raise InvalidInput("lease timings", "need 0 < retry period < renew deadline < lease duration")


class LeaseElector:
    """One candidate for one Lease.

    Args:
        identity: unique among the candidates, and across restarts.
        sleep: how time passes; tests turn it together with the clock.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        timings: LeaseTimings | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._timings = timings or LeaseTimings()
        self._sleep = sleep
        self._seen: Manifest | None = None  # the record as last read or written
        self._written: Manifest | None = None  # the same, where we wrote it last: spares reading it to renew
        self._seen_s = 0.0  # when it last changed, by our clock
        self._renewed_s: float | None = (
            None  # when the last successful renewal was sent; None: we do not lead
        )

    @property
    def is_leader(self) -> bool:
        """Whether we hold the lease as far as we know; `fresh` says whether that is recent."""
        return self._renewed_s is not None

    @property
    def holder(self) -> str:
        """The identity last seen in the lease; empty if nobody holds it."""
        return str(_spec(self._seen).get("holderIdentity") or "")

    def fresh(self) -> bool:
        """Whether nobody else can have taken the lease yet: renewed within the deadline by our own clock."""
        return self._renewed_s is not None and self._age_s(self._renewed_s) < self._timings.renew_deadline_s

    async def run(self, on_started: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the lease, then run `on_started` for as long as it is ours; ends as `on_started` does.

        Cancelling stops `on_started` first and then gives the lease back, so that another need not wait.

        Raises:
            Conflict: somebody else took the lease.
            Unavailable: it could not be renewed in time. Either way `on_started` was cancelled and has ended.
        """
        await self._acquire()
        work = asyncio.create_task(on_started())
        renewals = asyncio.create_task(self._renew_until_lost())
        try:
            await asyncio.wait({work, renewals}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await renewals  # raises why the lease is lost
            await work
        finally:
            await _stop(work)
            await _stop(renewals)
            await self._release()

    async def _acquire(self) -> None:
        while True:
            try:
                if await self._bounded(self._try_once()):
                    _log.info("Leading as %s", self._identity)
                    return
            except ClusterError as error:
                _log.warning("Cannot acquire the lease yet: %s", error)
            await self._sleep(self._timings.retry_period_s)

    async def _renew_until_lost(self) -> None:
        while True:
            await self._sleep(min(self._timings.retry_period_s, self._left_s()))
            try:
                ours = await self._bounded(self._try_once())
            except ClusterError as error:
                _log.warning("Cannot renew the lease: %s", error)
                self._written = None
                ours = self.holder == self._identity
            if not ours:
                self._renewed_s = None
                raise Conflict(f"{self.holder} took the lease {self._name}")
            if not self.fresh():
                self._renewed_s = None
                raise Unavailable(
                    f"the lease {self._name} could not be renewed for {self._timings.renew_deadline_s:g} s"
                )

    async def _bounded(self, attempt: Coroutine[Any, Any, bool]) -> bool:
        """An attempt that ends when a leader must give up, answer or not."""
        trying = asyncio.create_task(attempt)
        timer = asyncio.ensure_future(self._sleep(self._left_s()))
        try:
            await asyncio.wait({trying, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                raise Unavailable("no answer in time")
            return await trying
        finally:
            await _stop(trying)
            await _stop(timer)

    async def _try_once(self) -> bool:
        """Take or renew the lease if it is ours to take; whether we hold it now."""
        sent_s = self._clock.monotonic_s()
        live = self._written or await self._read()
        self._observe(live)
        if not self._may_take():
            return False
        write = self._cluster.create if live is None else self._cluster.apply
        taken = await write(LEASE, self._record(live))
        self._observe(taken)
        self._written = taken
        self._renewed_s = sent_s
        return True

    async def _read(self) -> Manifest | None:
        with suppress(NotFound):
            return await self._cluster.get(LEASE, self._namespace, self._name)
        return None

    def _observe(self, live: Manifest | None) -> None:
        """Note when the record last changed. A lease that vanished still binds us for its time."""
        if live is not None and (self._seen is None or _spec(live) != _spec(self._seen)):
            self._seen = live
            self._seen_s = self._clock.monotonic_s()

    def _may_take(self) -> bool:
        if self.holder in ("", self._identity):
            return True
        duration_s = float(_spec(self._seen).get("leaseDurationSeconds") or self._timings.lease_duration_s)
        return self._age_s(self._seen_s) > duration_s

    def _record(self, live: Manifest | None) -> Manifest:
        """The lease with us as its holder."""
        now = _micro_time(self._clock.now())
        old = _spec(live)
        is_renewal = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timings.lease_duration_s)),
            "acquireTime": old.get("acquireTime", now) if is_renewal else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0)
            + (0 if is_renewal or live is None else 1),
        }
        return self._manifest(spec, over=live)

    def _manifest(self, spec: dict[str, Any], *, over: Manifest | None) -> Manifest:
        metadata = {"name": self._name, "namespace": self._namespace}
        if over is not None:
            # Both preconditions: an update must not revive a lease that is gone, nor overtake another's.
            metadata |= {field: over["metadata"][field] for field in ("uid", "resourceVersion")}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Let another take over at once; if that fails, the lease expires by itself."""
        if self._written is not None and self._renewed_s is not None:
            spec = {**_spec(self._written), "holderIdentity": "", "renewTime": _micro_time(self._clock.now())}
            record = self._manifest(spec, over=self._written)
            with suppress(ClusterError):
                await self._bounded(self._give_back(record))
        self._renewed_s = None

    async def _give_back(self, record: Manifest) -> bool:
        self._observe(await self._cluster.apply(LEASE, record))
        return True

    def _left_s(self) -> float:
        """Seconds until a leader must give up; for others, the longest that an attempt may take."""
        if self._renewed_s is None:
            return self._timings.renew_deadline_s
        return max(0.0, self._timings.renew_deadline_s - self._age_s(self._renewed_s))

    def _age_s(self, since_s: float) -> float:
        return self._clock.monotonic_s() - since_s


def _spec(lease: Manifest | None) -> dict[str, Any]:
    return (lease or {}).get("spec") or {}


def _micro_time(moment: datetime) -> str:
    """As `metav1.MicroTime` is written."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _stop(task: "asyncio.Future[Any]") -> None:
    """Cancel a task and wait until it has ended, whatever it ends with."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # looked at: its owner has raised it, or has something better to say
