"""Where a turn goes: round robin, least load, session affinity.

Scorers that know the prefix are in `prefix.py`.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections.abc import Sequence
from math import ceil

from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["Forgetful", "LeastLoad", "RoundRobin", "SessionAffinity", "least_loaded"]


def least_loaded(open_: Sequence[ReplicaView]) -> ReplicaView:
    """Fewest turns, then fewest prompt tokens, then the first."""
    return min(open_, key=lambda one: (one.turns, one.prompt_tokens, one.index))


class Forgetful:
    """Defaults of a placement that remembers nothing of ends."""

    def on_finish(self, ended: Ended) -> None:
        """Nothing to remember."""

    def on_end(self, program: str) -> None:
        """Nothing to forget."""


class RoundRobin(Forgetful):
    """One after the other, as a Kubernetes Service in IPVS mode does by default."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        following = [one for one in open_ if one.index > self._last]
        found = (following or open_)[0]
        self._last = found.index
        return found


class LeastLoad(Forgetful):
    """Fewest turns under way: Envoy's LEAST_REQUEST with all hosts compared, llm-d's active-request-scorer alone."""

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        return least_loaded(open_)


class SessionAffinity:
    """A session stays where it was, unless that replica has too many turns.

    Sources: llm-d's session-affinity plugins for the binding and its lifetime (`evictionTtlSeconds` 300 from the last
    use); consistent hashing with bounded loads for the escape (Mirrokni, Thorup, Zadimoghaddam 2016, arXiv:1608.01350;
    their and HAProxy's usual factor 1.25): no replica gets more than `bound` times the average, this turn included.
    After an escape the session stays at its new place. A gate that closes the home is an escape too.
    """

    def __init__(self, *, ttl_s: float = 300.0, bound: float = 1.25) -> None:
        self._ttl_s = ttl_s
        self._bound = bound
        self._homes: dict[str, tuple[int, float]] = {}  # session → (replica, last use)
        self._sessions: dict[str, set[str]] = {}  # by program

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        most = ceil(self._bound * (sum(one.turns for one in open_) + 1) / len(open_))
        index, used_s = self._homes.get(turn.session, (-1, now_s))
        kept = [
            one for one in open_ if one.index == index and one.turns < most and now_s - used_s <= self._ttl_s
        ]
        found = kept[0] if kept else least_loaded(open_)
        self._remember(turn, found.index, now_s)
        return found

    def on_finish(self, ended: Ended) -> None:
        self._remember(ended.turn, ended.replica, ended.finished_s)

    def on_end(self, program: str) -> None:
        for session in self._sessions.pop(program, ()):
            self._homes.pop(session, None)

    def _remember(self, turn: TurnView, index: int, now_s: float) -> None:
        self._homes[turn.session] = (index, now_s)
        self._sessions.setdefault(turn.program, set()).add(turn.session)
