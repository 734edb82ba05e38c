"""Held turns in the order in which they go: one list, and the order of their deadlines."""

from bisect import bisect_left, insort
from dataclasses import dataclass
from heapq import heappop, heappush

from agentic_serving.errors import Bug
from agentic_serving.program.events import Reason, Turn

__all__ = ["Held", "Waiting"]

#: What goes first: a higher priority, then less of `weight`, then the earlier arrival.
Rank = tuple[int, float, int]


@dataclass(slots=True)
class Held:
    """A turn that waits.

    Attributes:
        home: the replica that has its prefix, or where that is being computed; None: it waits for room on any.
    """

    turn: Turn
    arrived_s: float
    rank: Rank
    reason: Reason = Reason.NO_ROOM
    home: str | None = None

    @property
    def deadline_s(self) -> float:
        return self.arrived_s + self.turn.max_hold_s


class Waiting:
    """All held turns. Adding and removing one moves memory, but compares only log n."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._order: list[tuple[Rank, str]] = []
        self._deadlines: list[tuple[float, str]] = []  # may name turns that are gone
        self._count = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self._held

    def rank(self, priority: int, weight: float) -> Rank:
        """The rank of the next turn that arrives."""
        self._count += 1
        return (-priority, weight, self._count)

    def add(self, held: Held) -> None:
        self._held[held.turn.id] = held
        insort(self._order, (held.rank, held.turn.id))
        heappush(self._deadlines, (held.deadline_s, held.turn.id))

    def pop(self, turn_id: str) -> Held | None:
        """It is admitted, or given up; None: it is not here."""
        held = self._held.pop(turn_id, None)
        if held is not None:
            del self._order[bisect_left(self._order, (held.rank, turn_id))]
        return held

    def first(self, n: int) -> list[Held]:
        """The n that go first."""
        return [self._held[turn_id] for _, turn_id in self._order[:n]]

    def reason(self, turn_id: str) -> Reason | None:
        """Why it waits, as of when it was looked at last; None: it is not here."""
        held = self._held.get(turn_id)
        return held.reason if held is not None else None

    def overdue(self, now_s: float) -> Held | None:
        """The one with the earliest deadline, if that is past."""
        at_s = self.deadline_s
        return self._held[self._deadlines[0][1]] if at_s is not None and at_s <= now_s else None

    @property
    def deadline_s(self) -> float | None:
        """The first deadline."""
        while self._deadlines and self._deadlines[0][1] not in self._held:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        if [turn_id for _, turn_id in self._order] != [one.turn.id for one in self._sorted()]:
            raise Bug("held turns are not in order")
        if {turn_id for _, turn_id in self._deadlines} < set(self._held):
            raise Bug("a held turn has no deadline")

    def _sorted(self) -> list[Held]:
        return sorted(self._held.values(), key=lambda held: (held.rank, held.turn.id))
