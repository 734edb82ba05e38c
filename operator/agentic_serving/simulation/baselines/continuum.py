"""Continuum-style time to live: a program keeps its place in the cache across a gap for as long as that is worth it.

Source: Continuum (arXiv:2511.02230); the formula as two independent reimplementations have it. When a turn ends, its
program's tokens stay reserved until tau* = argmax over tau in {0} and the observed gaps of
P(gap <= tau) * (T + reload) - tau, T the mean wait of turns whose reservation was gone (last 100), reload the time to
prefill the context again. Memoryfulness (eta, which scales T) is taken as 1. Turns whose reservation stands go first,
then by their program's arrival. Until 100 gaps were seen tau* is 2 s (the preview code's default).

The original pins blocks in the engine. Here the router reserves tokens: a turn is placed only where what is reserved
and what runs leaves room for it, so the engine's LRU has no need to evict them. One curve for all tools: a router does
not see which tool runs. Reservations end early when nothing else could run.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["ContinuumTTL", "best_ttl"]

_SAMPLES = 100  # gaps before the curve is used, and waits that are averaged
_DEFAULT_S = 2.0
_MOST_GAPS = 1_000  # newest ones; enough for a curve, bounded


def best_ttl(gaps_s: Sequence[float], saved_s: float) -> float:
    """The time to live with the greatest expected gain; `gaps_s` in ascending order."""
    best, gain = 0.0, 0.0
    for gap_s in gaps_s:
        found = bisect_right(gaps_s, gap_s) / len(gaps_s) * saved_s - gap_s
        if found > gain:
            best, gain = gap_s, found
    return best


@dataclass(slots=True)
class _Kept:
    """A session's tokens on a replica: in use, or reserved until `until_s`."""

    replica: int
    tokens: int
    until_s: float  # inf: a turn of it is under way
    ended_s: float = 0.0


class ContinuumTTL:
    """The policy."""

    def __init__(self, *, prefill_tokens_per_s: float) -> None:
        self._tokens_per_s = prefill_tokens_per_s
        self._kept: dict[str, _Kept] = {}  # by session
        self._ended_s: dict[str, float] = {}  # last end by session
        self._arrived_s: dict[str, float] = {}  # first turn by program
        self._sessions: dict[str, set[str]] = {}  # by program
        self._gaps_s: list[float] = []
        self._newest: deque[float] = deque()
        self._waits_s: deque[float] = deque(maxlen=_SAMPLES)
        self._counted: set[str] = set()  # waiting turns whose gap was noted

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return True

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        for turn in waiting:
            self._meet(turn)
        self._expire(waiting, now_s)
        return sorted(
            waiting, key=lambda turn: (turn.session not in self._kept, self._arrived_s[turn.program])
        )

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        up = [one for one in replicas if one.ready]
        free = self._free(up)
        kept = self._kept.get(turn.session)
        if kept is not None and kept.replica not in free:
            kept = None  # its replica is down
        if kept is not None:
            fits = [kept.replica]  # its tokens are there already: it must not wait for what it holds
        else:
            fits = [one.index for one in up if turn.prompt_tokens <= free[one.index] or not one.turns]
        if not fits:
            return None
        index = max(fits, key=lambda one: (free[one], -one))
        if kept is None and turn.index:
            self._waits_s.append(now_s - turn.arrived_s)
        self._counted.discard(turn.id)
        self._kept[turn.session] = _Kept(index, turn.prompt_tokens, math.inf)
        return index

    def on_finish(self, ended: Ended) -> None:
        turn, now_s = ended.turn, ended.finished_s
        tokens = ended.usage.prompt_tokens + ended.usage.output_tokens
        self._ended_s[turn.session] = now_s
        until_s = now_s + self._ttl_s(tokens)
        if until_s > now_s:
            self._kept[turn.session] = _Kept(ended.replica, tokens, until_s, now_s)
        else:
            self._kept.pop(turn.session, None)

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        """Nothing is kept of a turn that its replica lost."""
        self._counted.discard(turn.id)
        if replica is not None:
            self._kept.pop(turn.session, None)

    def on_end(self, program: str, now_s: float) -> None:
        self._arrived_s.pop(program, None)
        for session in self._sessions.pop(program, ()):
            self._kept.pop(session, None)
            self._ended_s.pop(session, None)

    def wake_s(self, now_s: float) -> float | None:
        """When the next reservation ends."""
        return min(
            (one.until_s for one in self._kept.values() if now_s < one.until_s < math.inf), default=None
        )

    def _meet(self, turn: TurnView) -> None:
        if turn.id in self._counted:
            return
        self._counted.add(turn.id)
        self._arrived_s.setdefault(turn.program, turn.arrived_s)
        self._sessions.setdefault(turn.program, set()).add(turn.session)
        ended_s = self._ended_s.get(turn.session)
        if ended_s is not None:
            self._note(turn.arrived_s - ended_s)

    def _note(self, gap_s: float) -> None:
        insort(self._gaps_s, gap_s)
        self._newest.append(gap_s)
        if len(self._newest) > _MOST_GAPS:
            self._gaps_s.remove(self._newest.popleft())

    def _expire(self, waiting: Sequence[TurnView], now_s: float) -> None:
        """Reservations whose time is over, but for sessions that are back in time and wait."""
        back = {turn.session: turn.arrived_s for turn in waiting}
        for session, one in list(self._kept.items()):
            if one.until_s <= now_s and back.get(session, math.inf) > one.until_s:
                del self._kept[session]

    def _free(self, replicas: Sequence[ReplicaView]) -> dict[int, int]:
        free = {one.index: one.cache_tokens for one in replicas}
        for kept in self._kept.values():
            if kept.replica in free:
                free[kept.replica] -= kept.tokens
        return free

    def _ttl_s(self, tokens: int) -> float:
        if len(self._gaps_s) < _SAMPLES:
            return _DEFAULT_S
        wait_s = sum(self._waits_s) / len(self._waits_s) if self._waits_s else 0.0
        return best_ttl(self._gaps_s, wait_s + tokens / self._tokens_per_s)
