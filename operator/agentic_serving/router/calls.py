"""Calls that have not ended: held, on their way, or waiting for their access log; bounded by Envoy's streams and by time.

A client that leaves a held call may come again at once: for a short time its turn keeps its place (`Phase.LEFT`).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from heapq import heappop, heappush

from agentic_serving.errors import Bug
from agentic_serving.program.events import Turn
from agentic_serving.router.prompts import Reading
from agentic_serving.router.words import Came

__all__ = ["Calls", "Open", "Phase"]


class Phase(Enum):
    HELD = auto()
    LEFT = auto()  # held, and nobody waits for it
    GOING = auto()
    CLOSED = auto()  # its stream has ended; what it used is not known yet


@dataclass(slots=True)
class Open:
    """A call that the scheduler knows.

    Attributes:
        chain: of its prompt; 0: not read.
        read: its body was.
        n_bytes: of its body.
        streams: the answer comes in pieces, so its first token will be seen.
        replica: where it was asked to go, then where it is, as soon as that is known.
        shared_pod: where what it shares most of was last.
    """

    turn: Turn
    reading: Reading
    chain: int
    n_bytes: int
    streams: bool
    arrived_s: float
    came: Came
    read: bool = True
    shared_pod: str = ""
    phase: Phase = Phase.GOING
    until_s: float = 0.0
    reason: str = ""
    replica: str = ""
    expected_cached: int = 0
    went_s: float = 0.0
    status: int = 0

    @property
    def id(self) -> str:
        return self.turn.id


class Calls:
    """All of them, by id.

    Attributes:
        held, held_bytes: those somebody waits for, and their bodies, which are in Envoy's memory.
        left, left_bytes: those whose place is kept for a client that may come again, and the bodies it would bring.
    """

    def __init__(self) -> None:
        self._calls: dict[str, Open] = {}
        self._held: dict[str, list[str]] = {}  # by session, also those that were left
        self._went: OrderedDict[str, float] = OrderedDict()
        self._until: list[tuple[float, str]] = []  # when a left or closed call is given up
        self.held = self.held_bytes = 0
        self.left = self.left_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def __iter__(self) -> Iterator[Open]:
        return iter(self._calls.values())

    @property
    def going(self) -> int:
        return len(self._went)

    def get(self, call_id: str) -> Open | None:
        return self._calls.get(call_id)

    def add(self, call: Open) -> None:
        self._calls[call.id] = call

    def hold(self, call: Open, until_s: float, reason: str) -> None:
        call.phase, call.until_s, call.reason = Phase.HELD, until_s, reason
        self._held.setdefault(call.turn.session, []).append(call.id)
        self.held += 1
        self.held_bytes += call.n_bytes

    def leave(self, call: Open, until_s: float) -> None:
        """Its client is gone; its place is kept until then."""
        call.phase = Phase.LEFT
        self.held -= 1
        self.held_bytes -= call.n_bytes
        self.left += 1
        self.left_bytes += call.n_bytes
        heappush(self._until, (until_s, call.id))

    def go(self, call: Open, now_s: float) -> None:
        if call.phase in (Phase.HELD, Phase.LEFT):
            self._unhold(call)
        call.phase, call.went_s = Phase.GOING, now_s
        self._went[call.id] = now_s

    def close(self, call: Open, until_s: float) -> None:
        """Its stream has ended; until then its access log is waited for."""
        call.phase = Phase.CLOSED
        heappush(self._until, (until_s, call.id))

    def end(self, call: Open) -> None:
        if call.phase in (Phase.HELD, Phase.LEFT):
            self._unhold(call)
        self._went.pop(call.id, None)
        del self._calls[call.id]

    @property
    def queue(self) -> Iterator[Open]:
        """Calls that have a place in the queue."""
        return (self._calls[one] for ids in self._held.values() for one in ids)

    def held_of(self, session: str) -> Iterator[Open]:
        """Its calls that have a place in the queue, the first to come first."""
        return iter([self._calls[one] for one in self._held.get(session, ())])

    @property
    def wake_s(self) -> float | None:
        while self._until and self._until[0][1] not in self._calls:
            heappop(self._until)
        return self._until[0][0] if self._until else None

    def due(self, now_s: float) -> Iterator[Open]:
        """Left and closed calls whose time is over; each is named once."""
        while (at_s := self.wake_s) is not None and at_s <= now_s:
            call = self._calls[heappop(self._until)[1]]
            if call.phase in (Phase.LEFT, Phase.CLOSED):
                yield call

    def lost(self, before_s: float) -> Iterator[Open]:
        """Calls that went so long ago that their end must have been missed."""
        while self._went and next(iter(self._went.values())) <= before_s:
            yield self._calls[self._went.popitem(last=False)[0]]

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        held = [one for one in self if one.phase is Phase.HELD]
        if (self.held, self.held_bytes) != (len(held), sum(one.n_bytes for one in held)):
            raise Bug("held calls are miscounted")
        left = [one for one in self if one.phase is Phase.LEFT]
        if (self.left, self.left_bytes) != (len(left), sum(one.n_bytes for one in left)):
            raise Bug("kept places are miscounted")
        queued = {one.id for one in self if one.phase in (Phase.HELD, Phase.LEFT)}
        if queued != {call_id for ids in self._held.values() for call_id in ids}:
            raise Bug("held calls are not in their sessions")
        on_way = {one.id for one in self if one.phase in (Phase.GOING, Phase.CLOSED)}
        if on_way != set(self._went):
            raise Bug("calls on their way are miscounted")
        if {one.id for one in self if one.phase in (Phase.LEFT, Phase.CLOSED)} - {
            one[1] for one in self._until
        }:
            raise Bug("a call that nobody waits for is never given up")

    def _unhold(self, call: Open) -> None:
        if call.phase is Phase.HELD:
            self.held -= 1
            self.held_bytes -= call.n_bytes
        else:
            self.left -= 1
            self.left_bytes -= call.n_bytes
        ids = self._held[call.turn.session]
        ids.remove(call.id)
        if not ids:
            del self._held[call.turn.session]
