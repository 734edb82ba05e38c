"""Virtual time: what will happen, by time; at one moment in the order in which it was said."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

__all__ = ["Timeline"]


class Timeline:
    """The clock and the events to come.

    Attributes:
        now_s: the moment that is simulated.
        changed: something happened at this moment that a policy may want to act on.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.changed = False
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._rank = count()

    def push(self, at_s: float, action: Callable[[], None]) -> None:
        heappush(self._heap, (at_s, next(self._rank), action))

    def next_s(self) -> float | None:
        """When the next event is; None: nothing will ever happen."""
        return self._heap[0][0] if self._heap else None

    def run_moment(self, at_s: float) -> None:
        """All events of one moment, those included that they bring about at it."""
        self.now_s = at_s
        heap = self._heap
        while heap and heap[0][0] == at_s:
            heappop(heap)[2]()
