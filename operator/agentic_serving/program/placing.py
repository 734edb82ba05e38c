"""Where a turn goes, or why it waits: one turn against what is known of all replicas.

The rules in their order; the first that applies decides.
1. Most of the prompt is somewhere: there, at once, or as soon as that replica has worked off the prefill before it.
2. A replica has room for it beside what its sessions will need again: there.
3. It fits nowhere, but computing again what it evicts is within a replica's recompute budget: there.
4. It waits. When its hold is over it goes to the overflow replica, whatever that evicts; no more replicas bear that than needed.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf

from agentic_serving.program.events import Reason, Turn
from agentic_serving.program.ledger import Ledger
from agentic_serving.program.policy import Policy
from agentic_serving.program.replicas import Decoding, Replica
from agentic_serving.program.residents import Residents

__all__ = ["Choice", "Placing"]

#: A turn leaves the replica that has its prefix if it would be answered in less than half the time elsewhere:
#: what it leaves behind has to be computed again.
_ESCAPE = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A replica and what the turn will have to compute there; replica None: it waits, for `home` if that is said."""

    replica: Replica | None
    reason: Reason
    uncached: int = 0
    evicts: float = 0.0  # tokens beyond the replica's room
    home: str | None = None


class Placing:
    """Reads the ledger, the residents and the replicas; changes nothing but budgets' clocks."""

    def __init__(self, policy: Policy, ledger: Ledger, residents: Residents) -> None:
        self.replicas: dict[str, Replica] = {}
        self._policy = policy
        self._ledger = ledger
        self._residents = residents
        self.decoding = Decoding()
        self._open: list[Replica] | None = None

    def configure(self, policy: Policy) -> None:
        self._policy = policy
        self._open = None

    @property
    def timed_tokens(self) -> int:
        """Only prefills of several steps say how fast prefill is."""
        return self._policy.prefill_tokens

    def changed(self) -> None:
        """Turns came to a replica or left it, or there are other replicas."""
        self._open = None

    def choose(self, turn: Turn, now_s: float, busy: Iterable[str] = ()) -> Choice:
        """Rules 1 to 3.

        Args:
            busy: replicas where a sibling computes what this one shares: not there before it is done.
        """
        warm = self.warm(turn)
        skip = frozenset(busy)
        home = self._home(turn, warm) if self._policy.stay else None
        room = self._roomy(turn, warm, skip)
        if home is not None:
            return self._stay(turn, home, warm, room)
        if room is not None:
            return Choice(room, Reason.ROOM, turn.prompt_tokens - warm.get(room.name, 0))
        return self._within_budget(turn, warm, skip, now_s)

    def overflow(self, turn: Turn) -> Choice:
        """Rule 4, second half: the replica that bears it already, or a further one if the wait there got too long.

        Never more than their share: what is left keeps its residents.
        """
        warm = self.warm(turn)
        bearing = [one for one in self.replicas.values() if one.overflow]
        short = [one for one in bearing if one.seconds(one.pending) < self._policy.overflow_queue_s]
        fresh = [one for one in self.replicas.values() if not one.overflow]
        most = max(1, ceil(self._policy.overflow_share * len(self.replicas)))
        if short or not fresh or len(bearing) >= most:
            host = min(short or bearing, key=lambda one: (-one.overflow if short else one.pending, one.name))
        else:
            host = max(fresh, key=lambda one: self.free(one) + self._residents.needs(turn.session, one.name))
        return Choice(host, Reason.OVERFLOW, turn.prompt_tokens - warm.get(host.name, 0))

    def anywhere(self, turn: Turn, reason: Reason) -> Choice:
        """The replica that has its first token first, whatever that evicts."""
        warm = self.warm(turn)
        best = min(
            self.replicas.values(),
            key=lambda one: (
                one.pending + turn.prompt_tokens - warm.get(one.name, 0),
                one.turns,
                -self.free(one),
            ),
        )
        return Choice(best, reason, turn.prompt_tokens - warm.get(best.name, 0))

    def elsewhere(self, turn: Turn, skip: frozenset[str], now_s: float) -> Choice | None:
        """Where else the prompt could be computed now without harm to anybody there: rules 2 and 3."""
        warm = self.warm(turn)
        room = self._roomy(turn, warm, skip)
        if room is not None:
            return Choice(room, Reason.ROOM, turn.prompt_tokens - warm.get(room.name, 0))
        found = self._within_budget(turn, warm, skip, now_s)
        return None if found.replica is None else found

    def warm(
        self, turn: Turn, computing: Callable[[str], Container[str]] = lambda _: ()
    ) -> Mapping[str, int]:
        """Tokens of the prompt that are probably there, by replica.

        Args:
            computing: replicas where another session's prompt is being computed: what that shares is not there yet.
        """
        found: dict[str, int] = {}
        for share in turn.shares:
            skip = computing(share.session) if share.session != turn.session else ()
            for name, tokens in self._ledger.where(share.session).items():
                if name in skip:
                    continue
                there = min(tokens, share.tokens, turn.prompt_tokens - 1)
                if there > found.get(name, 0) and name in self.replicas:
                    found[name] = there
        return found

    def free(self, replica: Replica) -> float:
        """Tokens that nobody there will need soon."""
        return self._ledger.capacity(replica.name) - self._residents.needed(replica.name)

    def most_room(self, now_s: float) -> float:
        """No prompt that is longer, and nowhere warm, can be placed now; one that is not may find no room either."""
        most = 0.0
        for one in self.replicas.values():
            if not one.turns and self._residents.needed(one.name) < 1:
                return inf  # nothing is lost there, whatever the length
            if one.turns >= one.max_seqs:
                continue
            room = self.free(one) + one.spare(self._policy, now_s)
            if not one.takes(self._policy.small_tokens + 1, self._policy):
                room = min(room, self._policy.small_tokens)
            most = max(most, room)
        return most

    def _home(self, turn: Turn, warm: Mapping[str, int]) -> Replica | None:
        """Of the replicas that have most of the prompt, the one that answers first."""
        best: tuple[float, str] | None = None
        for name, there in warm.items():
            missing = turn.prompt_tokens - there
            if missing <= self._policy.small_tokens or there >= self._policy.warm_share * turn.prompt_tokens:
                key = (self.replicas[name].answers_s(missing, self.decoding), name)
                best = key if best is None else min(best, key)
        return None if best is None else self.replicas[best[1]]

    def _stay(self, turn: Turn, home: Replica, warm: Mapping[str, int], room: Replica | None) -> Choice:
        missing = turn.prompt_tokens - warm[home.name]
        if room is not None and room is not home:
            missing_there = turn.prompt_tokens - warm.get(room.name, 0)
            here_s, there_s = (
                one.answers_s(tokens, self.decoding)
                for one, tokens in ((home, missing), (room, missing_there))
            )
            if here_s > _ESCAPE * there_s + room.seconds(self._policy.small_tokens):
                return Choice(room, Reason.ROOM, missing_there)
        if home.takes(missing, self._policy):
            return Choice(home, Reason.WARM, missing)
        return Choice(None, Reason.PREFILL, missing, home=home.name)

    def _candidates(self, turn: Turn, warm: Mapping[str, int]) -> Iterable[Replica]:
        """All that may take it: with many turns and replicas most of either are just not asked."""
        policy = self._policy
        if turn.prompt_tokens <= policy.small_tokens:
            return self.replicas.values()
        if self._open is None:
            self._open = [one for one in self.replicas.values() if one.takes(policy.small_tokens + 1, policy)]
        return (
            [*self._open, *(self.replicas[name] for name in warm if self.replicas[name] not in self._open)]
            if warm
            else self._open
        )

    def _roomy(self, turn: Turn, warm: Mapping[str, int], skip: frozenset[str]) -> Replica | None:
        """Of those with room the one that computes it first, then the emptiest."""
        best: tuple[float, float, str] | None = None
        for one in self._candidates(turn, warm):
            missing = turn.prompt_tokens - warm.get(one.name, 0)
            if one.name in skip or not one.takes(missing, self._policy):
                continue
            free = self.free(one) + self._residents.needs(turn.session, one.name)
            if free >= turn.prompt_tokens or not one.turns:
                key = (one.answers_s(missing, self.decoding), -free, one.name)
                best = key if best is None else min(best, key)
        return None if best is None else self.replicas[best[2]]

    def _within_budget(
        self, turn: Turn, warm: Mapping[str, int], skip: frozenset[str], now_s: float
    ) -> Choice:
        best: tuple[float, str] | None = None
        for one in self._candidates(turn, warm):
            missing = turn.prompt_tokens - warm.get(one.name, 0)
            if one.name in skip or not one.takes(missing, self._policy):
                continue
            evicts = turn.prompt_tokens - self.free(one) - self._residents.needs(turn.session, one.name)
            if evicts <= one.spare(self._policy, now_s):
                key = (one.cost_s(evicts) + one.seconds(missing), one.name)
                best = key if best is None else min(best, key)
        if best is None:
            return Choice(None, Reason.NO_ROOM)
        found = self.replicas[best[1]]
        evicts = turn.prompt_tokens - self.free(found) - self._residents.needs(turn.session, found.name)
        return Choice(found, Reason.BUDGET, turn.prompt_tokens - warm.get(found.name, 0), max(evicts, 0.0))
