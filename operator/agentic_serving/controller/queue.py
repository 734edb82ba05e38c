"""The work queue: keyed, de-duplicating, rate-limited, in two lanes.

- A key is in the queue at most once, and never handed out while it is being worked on: what is added meanwhile
  is handed out afterwards.
- Two lanes: `Lane.URGENT` (somebody edited an object) goes ahead of `Lane.BULK` (first sight, children's
  status, resync), so that an edit does not wait behind a storm; every `_BULK_SHARE`-th turn goes to BULK first,
  so that edits without end do not starve it. Within a lane: first due, first out.
- A failing key waits exponentially longer. BULK events shorten that wait to `_EVENT_HOLD_S` and not further, so that
  events caused by failing work do not turn into a busy loop; an URGENT one ends it.

Own code because asyncio.Queue has none of this and client-go's workqueue has no Python port. Single-threaded.
"""

import asyncio
import heapq
from dataclasses import dataclass
from enum import IntEnum
from random import Random

from agentic_serving.clock import Clock
from agentic_serving.controller.keys import Key

__all__ = ["Backoff", "Lane", "WorkQueue"]

_BULK_SHARE = 8
_EVENT_HOLD_S = 5.0


class Lane(IntEnum):
    """Which keys go first."""

    URGENT = 0
    BULK = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delay before the n-th retry in a row: `base_s * 2^n`, at most `max_s`, spread by `jitter`.

    One second first: a retry costs the API server several requests, and client-go's 5 ms is for retries that
    cost it one. A minute at most: a foreign object, a quota or a right is repaired without an event that we see,
    and whoever repaired it is waiting.
    """

    base_s: float = 1.0
    max_s: float = 60.0
    jitter: float = 0.2  # a share of the delay, both ways: keys that failed together come back apart

    def delay_s(self, failures: int, rng: Random) -> float:
        # The exponent is bounded so that a long failure does not overflow.
        delay_s = min(self.max_s, self.base_s * 2.0 ** min(failures, 32))
        return delay_s * (1 + self.jitter * (2 * rng.random() - 1))


@dataclass(slots=True)
class _Entry:
    """A key that waits."""

    lane: Lane
    due_s: float


class WorkQueue:
    """Keys that wait, keys that are worked on, and how often each failed."""

    def __init__(self, clock: Clock, rng: Random, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._waiting: dict[Key, _Entry] = {}
        self._heaps: tuple[list[tuple[float, int, Key]], ...] = ([], [])
        self._running: set[Key] = set()
        self._again: dict[Key, _Entry] = {}  # added while running
        self._failures: dict[Key, int] = {}
        self._held_until_s: dict[Key, float] = {}
        self._serial = 0
        self._turn = 0
        self._wake = asyncio.Event()

    def add(self, key: Key, *, lane: Lane = Lane.BULK, after_s: float = 0.0) -> None:
        """Ask for `key` to be worked on, `after_s` seconds from now or sooner."""
        now_s = self._clock.monotonic_s()
        due_s = now_s + after_s
        if lane is Lane.URGENT:
            self.forget(key)
        else:
            due_s = self._held(key, due_s)
        entry = _Entry(lane, due_s)
        if key in self._running:
            self._again[key] = _merged(self._again.get(key), entry)
        else:
            self._put(key, entry)

    def retry(self, key: Key, *, at_least_s: float = 0.0) -> float:
        """Ask for `key` again after its back-off; the result is the delay in seconds.

        Args:
            at_least_s: what the server asked for (`Retry-After`).
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = max(at_least_s, self._backoff.delay_s(failures, self._rng))
        self.add(key, after_s=delay_s)
        self._held_until_s[key] = self._clock.monotonic_s() + delay_s
        return delay_s

    def forget(self, key: Key) -> None:
        """It went well, or it is another object now: the next failure starts from the shortest delay."""
        self._failures.pop(key, None)
        self._held_until_s.pop(key, None)

    def failures(self, key: Key) -> int:
        """Failures of the key in a row."""
        return self._failures.get(key, 0)

    def take(self) -> Key | None:
        """A key that is due, marked as being worked on; None if there is none."""
        self._turn += 1
        order = (Lane.BULK, Lane.URGENT) if self._turn % _BULK_SHARE == 0 else (Lane.URGENT, Lane.BULK)
        for lane in order:
            key = self._pop(lane)
            if key is not None:
                del self._waiting[key]
                self._running.add(key)
                return key
        return None

    async def get(self) -> Key:
        """As `take`, but waits for one."""
        while True:
            key = self.take()
            if key is not None:
                return key
            self._wake.clear()
            next_s = self.next_due_s()
            timeout_s = None if next_s is None else max(0.0, next_s - self._clock.monotonic_s())
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The work on `key` is over; what was added meanwhile becomes waiting."""
        self._running.discard(key)
        entry = self._again.pop(key, None)
        if entry is None:
            return
        if entry.lane is Lane.BULK:
            entry.due_s = self._held(key, entry.due_s)
        self._put(key, entry)

    def next_due_s(self) -> float | None:
        """When the next key becomes due, on the monotonic clock; None if none waits."""
        heads = [head for lane in Lane if (head := self._head(lane)) is not None]
        return min((due_s for due_s, _, _ in heads), default=None)

    def depth(self) -> int:
        """Keys that are due and not being worked on."""
        now_s = self._clock.monotonic_s()
        return sum(entry.due_s <= now_s for entry in self._waiting.values())

    def oldest_s(self) -> float:
        """For how long the key that has waited longest has been due; 0 if none is."""
        now_s = self._clock.monotonic_s()
        return max(
            (now_s - entry.due_s for entry in self._waiting.values() if entry.due_s <= now_s), default=0.0
        )

    def running(self) -> int:
        return len(self._running)

    def idle(self) -> bool:
        """Nothing is due and nothing is being worked on."""
        return not self._running and self.depth() == 0

    def _held(self, key: Key, due_s: float) -> float:
        """When an event may bring a key back that is in back-off."""
        until_s = self._held_until_s.get(key, due_s)
        return max(due_s, min(until_s, self._clock.monotonic_s() + _EVENT_HOLD_S))

    def _put(self, key: Key, entry: _Entry) -> None:
        merged = _merged(self._waiting.get(key), entry)
        self._waiting[key] = merged
        self._serial += 1
        heapq.heappush(self._heaps[merged.lane], (merged.due_s, self._serial, key))
        self._wake.set()

    def _head(self, lane: Lane) -> tuple[float, int, Key] | None:
        """The first valid item of a lane. Items that were superseded are dropped when they come up."""
        heap = self._heaps[lane]
        while heap:
            due_s, _, key = heap[0]
            entry = self._waiting.get(key)
            if entry is not None and entry.lane is lane and entry.due_s == due_s:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _pop(self, lane: Lane) -> Key | None:
        head = self._head(lane)
        if head is None or head[0] > self._clock.monotonic_s():
            return None
        heapq.heappop(self._heaps[lane])
        return head[2]


def _merged(old: _Entry | None, new: _Entry) -> _Entry:
    """The more urgent lane, the earlier time."""
    if old is None:
        return new
    return _Entry(min(old.lane, new.lane), min(old.due_s, new.due_s))
