"""Simulated time against real time.

The engine's clock runs `1 / scale` times as fast as the real one. A step that the machine was too slow for is caught up
with, so many short waits do not add up to a slow engine; after a long stall the clock jumps instead.
"""

import asyncio
from typing import Protocol

__all__ = ["InstantPacer", "Pacer", "RealPacer", "pacer"]

#: Real seconds behind which the clock jumps: a stalled machine must not make an engine rush for minutes.
_CATCH_UP_S = 0.25


class Pacer(Protocol):
    """The engine's clock."""

    def now_s(self) -> float:
        """Simulated seconds; never goes back."""
        ...

    async def sleep_until(self, moment_s: float) -> None:
        """Return when simulated time is `moment_s`."""
        ...

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        """Return when the event is set, or at `until_s`."""
        ...


class RealPacer:
    """Simulated time from the event loop's clock."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._shift_s = 0.0  # simulated seconds left out by jumps
        self._start_s = asyncio.get_running_loop().time()
        self._limit_s: float | None = None  # simulated time stands here while a step is behind

    def now_s(self) -> float:
        now = (asyncio.get_running_loop().time() - self._start_s) / self._scale - self._shift_s
        return now if self._limit_s is None else min(now, self._limit_s)

    async def sleep_until(self, moment_s: float) -> None:
        self._limit_s = None
        behind_s = (self.now_s() - moment_s) * self._scale
        if behind_s > _CATCH_UP_S:
            self._shift_s += behind_s / self._scale
        self._limit_s = moment_s
        await asyncio.sleep(max(0.0, -behind_s))

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        self._limit_s = None
        if event.is_set():
            return
        timeout_s = None if until_s is None else max(0.0, until_s - self.now_s()) * self._scale
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return


class InstantPacer:
    """Time that passes only by steps: nothing waits (`ENGINESIM_TIME_SCALE=0`, and tests)."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    async def sleep_until(self, moment_s: float) -> None:
        self._now_s = max(self._now_s, moment_s)
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, until_s: float | None) -> None:
        if until_s is not None and not event.is_set():
            await self.sleep_until(until_s)
        elif until_s is None:
            await event.wait()


def pacer(scale: float) -> Pacer:
    """The clock for a time scale; to be called with the event loop running."""
    return RealPacer(scale) if scale > 0 else InstantPacer()
