"""Time for tests of things that wait: a clock and its sleepers, turned by hand and without waiting."""

import asyncio
import heapq
import itertools
from datetime import datetime, timedelta

from agentic_serving.clock import ManualClock

#: Turns of the event loop after which whatever can go on has gone on; the longest chain here takes about 15.
_SETTLE_TURNS = 40


class Timeline(ManualClock):
    """A clock whose `sleep` ends when `advance_s` gets there, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.monotonic_s() + seconds, next(self._order), wake))
        await wake

    async def advance_s(self, seconds: float) -> None:
        """Let `seconds` pass, waking sleepers at their times."""
        end_s = self.monotonic_s() + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            at_s, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                self.advance(max(0.0, at_s - self.monotonic_s()))
                wake.set_result(None)
                await self.settle()
        self.advance(end_s - self.monotonic_s())

    async def settle(self) -> None:
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)


class Skewed:
    """A machine's own clock on a timeline: elsewhere on the wall, and faster or slower."""

    def __init__(self, timeline: Timeline, *, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self._timeline = timeline
        self._offset_s = offset_s
        self._rate = rate

    def monotonic_s(self) -> float:
        return self._timeline.monotonic_s() * self._rate + self._offset_s % 1000

    def now(self) -> datetime:
        return self._timeline.now() + timedelta(seconds=self._offset_s)

    async def sleep(self, seconds: float) -> None:
        await self._timeline.sleep(seconds / self._rate)
