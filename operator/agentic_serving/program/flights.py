"""Turns on their way: what they use of replicas and caches from their admission to their end."""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from agentic_serving.errors import Bug
from agentic_serving.program.events import Turn
from agentic_serving.program.ledger import Ledger
from agentic_serving.program.placing import Placing
from agentic_serving.program.replicas import Replica
from agentic_serving.program.residents import Residents

__all__ = ["Flight", "Flights"]


@dataclass(slots=True)
class Flight:
    """A turn on its way; `uncached` and `warm` are tokens of its prompt as expected when it was placed."""

    turn: Turn
    host: Replica
    uncached: int
    warm: int
    placed_s: float
    overflow: bool
    prefilling: bool = True
    first_s: float = 0.0
    beside: int = 0  # turns there at the first token
    warm_up: bool = False  # of the prompt alone: a side request that the ledger knows of
    epoch: int = 0  # of the witness

    @property
    def replica(self) -> str:
        return self.host.name

    @property
    def stays(self) -> bool:
        """What it computes is there for others."""
        return self.warm_up or not self.turn.side


class Flights:
    """All of them. Keeps counts of replicas, the ledger and the residents in step with them."""

    def __init__(self, placing: Placing, ledger: Ledger, residents: Residents) -> None:
        self._placing = placing
        self._ledger = ledger
        self._residents = residents
        self._flights: dict[str, Flight] = {}
        self._computing: dict[
            str, dict[str, str]
        ] = {}  # session → replica → turn that has no first token yet
        self._under_way: Counter[str] = Counter()  # turns, by session

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, turn_id: object) -> bool:
        return turn_id in self._flights

    def get(self, turn_id: str) -> Flight | None:
        return self._flights.get(turn_id)

    def computing(self, session: str) -> Container[str]:
        """The replicas that compute a prompt of the session."""
        return self._computing.get(session, ())

    def under_way(self, session: str) -> bool:
        return session in self._under_way

    def known(self, flight: Flight) -> bool:
        """False: its replica is gone. One that came back under its name has nothing of the flight."""
        return self._placing.replicas.get(flight.replica) is flight.host

    def leaders(self, turn: Turn, shared_tokens: int) -> dict[str, int]:
        """Replicas where another session computes now what this one shares with it, and how much that is."""
        found: dict[str, int] = {}
        for share in turn.shares:
            if share.session == turn.session:
                continue
            for leader in self._computing.get(share.session, {}).values():
                flight = self._flights[leader]
                if share.tokens - flight.warm >= shared_tokens and self.known(flight):
                    found[flight.replica] = max(found.get(flight.replica, 0), share.tokens)
        return found

    def begin(self, flight: Flight, now_s: float) -> None:
        """It was placed."""
        turn, replica = flight.turn, flight.host
        self._flights[turn.id] = flight
        self._placing.changed()
        replica.begin(flight.uncached)
        replica.overflow += flight.overflow
        if not flight.stays:
            return
        flight.epoch = replica.witness.begin(flight.uncached)
        self._computing.setdefault(turn.session, {})[replica.name] = turn.id
        shared = self._shared(turn, replica.name)
        self._ledger.begin(turn.session, replica.name, turn.prompt_tokens, now_s, shared)
        if turn.side:
            return
        self._under_way[turn.session] += 1
        others = shared[1] if shared and shared[0] != turn.session else 0
        self._residents.use(turn.session, replica.name, turn.prompt_tokens - others)

    def first_token(self, turn_id: str, now_s: float, *, timed: bool = True) -> None:
        flight = self._flights.get(turn_id)
        if flight is None or not flight.prefilling:
            return
        flight.prefilling = False
        self._placing.changed()
        self._computed(flight)
        if self.known(flight):
            flight.first_s, flight.beside = now_s, flight.host.turns - 1
            timed = timed and flight.uncached >= self._placing.timed_tokens
            flight.host.first_token(flight.uncached, flight.placed_s, now_s, timed=timed)

    def land(self, flight: Flight) -> None:
        """It is not under way any more. What it leaves in the cache is said to the ledger by the caller."""
        session = flight.turn.session
        del self._flights[flight.turn.id]
        self._placing.changed()
        self._computed(flight)
        if self.known(flight):
            flight.host.leave(flight.uncached if flight.prefilling else None)
            flight.host.overflow -= flight.overflow
        if not flight.turn.side:
            self._under_way[session] -= 1
            if not self._under_way[session]:
                del self._under_way[session]

    def cancel(self, flight: Flight, now_s: float) -> None:
        """It has no answer: what it would have left is not there."""
        self.land(flight)
        if flight.stays and self.known(flight):
            flight.host.witness.end(flight.uncached, 0, flight.epoch)
            self._ledger.cancel(flight.turn.session, flight.replica, now_s)

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        for replica in self._placing.replicas.values():
            here = [one for one in self._flights.values() if one.host is replica]
            prefilling = [one for one in here if one.prefilling]
            if replica.turns != len(here) or replica.prefills != len(prefilling):
                raise Bug(f"turns of {replica.name} are miscounted")
            if replica.witness.allowed != sum(one.uncached for one in here if one.stays):
                raise Bug(f"what {replica.name} may store for its turns is miscounted")
            if replica.pending != sum(one.uncached for one in prefilling):
                raise Bug(f"prefill of {replica.name} is miscounted")

    def _shared(self, turn: Turn, replica: str) -> tuple[str, int] | None:
        """What of the prompt is another session's as well, or all that goes on of this session's own."""
        best: tuple[str, int] | None = None
        for share in turn.shares:
            there = min(share.tokens, self._ledger.warm(share.session, replica))
            if there > (best[1] if best else 0):
                best = (share.session, there)
        return best

    def _computed(self, flight: Flight) -> None:
        turn, there = flight.turn, self._computing.get(flight.turn.session, {})
        if there.get(flight.replica) == turn.id:
            del there[flight.replica]
            if not there:
                del self._computing[turn.session]
