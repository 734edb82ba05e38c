"""The workers: take a key, reconcile it, and put it back as its outcome asks."""

import asyncio
import logging
from collections.abc import Callable

from agentic_serving.clock import Clock
from agentic_serving.controller.keys import Key
from agentic_serving.controller.metrics import Metrics
from agentic_serving.controller.outcome import Outcome, Requeue, verdict
from agentic_serving.controller.queue import WorkQueue
from agentic_serving.controller.reconcile import Reconciler
from agentic_serving.errors import ClusterError, Waiting
from agentic_serving.logs import bound

__all__ = ["Workers"]

_log = logging.getLogger(__name__)


class Workers:
    """As many loops as there may be reconciles at once.

    Args:
        unique: gives another short text at each call, to tell passes apart in the logs.
    """

    def __init__(
        self,
        queue: WorkQueue,
        reconciler: Reconciler,
        metrics: Metrics,
        clock: Clock,
        unique: Callable[[], str],
    ) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._clock = clock
        self._unique = unique
        self.last_beat_s = clock.monotonic_s()  # when a worker last took or finished a key

    async def run(self, n: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(n):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            await self.handle(key)
            # A pass that finds everything as it should be waits for nothing: after a start that is every pass,
            # and without this the lease and the metrics would wait for all of them.
            await asyncio.sleep(0)

    async def handle(self, key: Key) -> Outcome:
        """One pass over a key that was taken from the queue."""
        self.last_beat_s = started_s = self._clock.monotonic_s()
        failures = self._queue.failures(key)
        with bound(kind=key.kind, namespace=key.namespace, name=key.name, reconcile_id=self._unique()):
            try:
                outcome = await self._reconciler.reconcile(key, failures=failures)
                self._settle(key, outcome, failures)
            finally:
                self._queue.done(key)
            seconds = self._clock.monotonic_s() - started_s
            result = "error" if outcome.error else "ok" if outcome.after_s is None else "waiting"
            _log.debug("reconciled", extra={"result": result, "seconds": round(seconds, 3)})
        self.last_beat_s = self._clock.monotonic_s()
        self._metrics.reconciles.labels(key.kind, result).inc()
        self._metrics.reconcile_s.labels(key.kind).observe(seconds)
        return outcome

    def _settle(self, key: Key, outcome: Outcome, failures: int) -> None:
        if outcome.error is None:
            self._queue.forget(key)
            if outcome.after_s is not None:
                self._queue.add(key, after_s=outcome.after_s)
            return
        answer = verdict(outcome.error).requeue
        if answer is Requeue.BACKOFF:
            asked_s = outcome.error.retry_after_s if isinstance(outcome.error, ClusterError) else None
            delay_s = self._queue.retry(key, at_least_s=asked_s or 0.0)
            self._metrics.retries.inc()
            _log_failure(outcome.error, failures, delay_s)
        elif answer is Requeue.AFTER and isinstance(outcome.error, Waiting):
            self._queue.add(key, after_s=outcome.error.after_s)


def _log_failure(error: Exception, failures: int, delay_s: float) -> None:
    """The first failure, and then ever fewer: the 2nd, 4th, 8th."""
    n = failures + 1
    level = logging.WARNING if n & failures == 0 else logging.DEBUG
    _log.log(
        level,
        "reconcile failed; it will be tried again",
        extra={
            "error": str(error),
            "error_class": type(error).__name__,
            "attempt": n,
            "after_s": round(delay_s, 1),
        },
    )
