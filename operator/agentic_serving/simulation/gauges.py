"""What routers read of replicas: their gauges now, or as of the last scrape."""

from collections.abc import Callable
from functools import partial
from math import floor

from agentic_serving.fleet.types import Limits, Stats
from agentic_serving.simulation.engines import Engines
from agentic_serving.simulation.timeline import Timeline
from agentic_serving.simulation.views import ReplicaView

__all__ = ["Gauges"]


class Gauges:
    """Of equal replicas. With `scrape_s` every router scrapes at its multiples, all at the same time."""

    def __init__(self, engines: Engines, limits: Limits, timeline: Timeline, scrape_s: float) -> None:
        self._engines = engines
        self._limits = limits
        self._timeline = timeline
        self._scrape_s = scrape_s
        self._scrapes = 0
        self._scraped = self._stats(0.0) if scrape_s else []

    def views(self) -> list[ReplicaView]:
        """All replicas, as a router of its own sees them."""
        return [
            ReplicaView(
                index=index,
                cache_tokens=self._limits.usable_tokens,
                block_size=self._limits.block_size,
                max_seqs=self._limits.max_seqs,
                read=self._reader(index),
            )
            for index in range(len(self._engines.replicas))
        ]

    def pass_time(self, until_s: float) -> None:
        """Time goes on to a moment, before anything happens at it."""
        if until_s < self.next_s:
            return
        # One less than the quotient and then step by step: it may be rounded up.
        self._scrapes = max(self._scrapes, floor(until_s / self._scrape_s) - 1)
        while self.next_s <= until_s:
            self._scrapes += 1
        self._scraped = self._stats(self._scrapes * self._scrape_s)

    @property
    def renewed_s(self) -> float | None:
        """When routers will learn something new; None: they know all."""
        if not self._scrape_s or self._scraped == self._stats(self._timeline.now_s):
            return None
        return self.next_s

    @property
    def next_s(self) -> float:
        """When the next scrape is; always later than the last one."""
        return (self._scrapes + 1) * self._scrape_s

    def _reader(self, index: int) -> Callable[[], Stats]:
        return partial(self._old if self._scrape_s else self._now, index)

    def _now(self, index: int) -> Stats:
        return self._engines.replicas[index].stats(self._timeline.now_s)

    def _old(self, index: int) -> Stats:
        return self._scraped[index]

    def _stats(self, at_s: float) -> list[Stats]:
        return [replica.stats(at_s) for replica in self._engines.replicas]
