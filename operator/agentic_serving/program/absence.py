"""How likely a session that is away is back soon: by what gaps were before, and by what its client declared if that is true.

The cause of a gap is not known when it begins, as no response body is read: gaps after tools and before people are learned as one.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from agentic_serving.program.events import Declared, Turn
from agentic_serving.program.gaps import GapModel
from agentic_serving.program.policy import Policy

__all__ = ["Absence"]

#: The name under which gaps are learned whatever caused them.
_ANY = "any"
#: About the last 20 declarations of a program count; one is right if it is within a factor of three.
_TRUST_WEIGHT = 0.05
_RIGHT_FACTOR = 3.0
_FIRST_TRUST = 0.5
#: A chance is asked of the model anew after so many gaps: of the 500 that it goes by, a thirtieth.
_FRESH_GAPS = 16
_MOST_CHANCES = 4096
#: Words said while an answer is written: more turns than that are not in flight on a stack.
_MOST_EARLY = 16_384


@dataclass(slots=True)
class _Away:
    program: str
    run: str
    since_s: float
    declared: Declared | None  # of the gap; None where nothing was said of it

    def declare(self, declared: Declared, said_s: float) -> None:
        if declared.gap_s is not None:
            declared = replace(declared, gap_s=max(0.0, declared.gap_s + said_s - self.since_s))
        self.declared = declared


class Absence:
    """Sessions between two turns, the latest kept; what was learned of their gaps."""

    def __init__(self, policy: Policy, *, max_sessions: int = 200_000) -> None:
        self.gaps = GapModel()
        self._policy = policy
        self._max_sessions = max_sessions
        self._away: OrderedDict[str, _Away] = OrderedDict()
        self._sessions: dict[str, set[str]] = {}  # away, by run
        self._early: OrderedDict[str, tuple[Declared, float]] = OrderedDict()  # said before the answer ended
        self._trust: dict[str, float] = {}
        self._n_learned = 0
        self._chances: dict[tuple[str, float], tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._away)

    def configure(self, policy: Policy) -> None:
        self._policy = policy
        self._chances.clear()

    def trust(self, program: str) -> float:
        """Of what the program's clients declare of gaps, the share that was true; 0.5 before anything is known."""
        return self._trust.get(program, _FIRST_TRUST)

    def away(self, turn: Turn, now_s: float) -> None:
        """A turn of the session has ended."""
        self._pop(turn.session)
        one = _Away(turn.program, turn.run, now_s, _of_gap(turn.declared))
        self._away[turn.session] = one
        self._sessions.setdefault(turn.run, set()).add(turn.session)
        early = self._early.pop(turn.session, None)
        if early is not None:
            one.declare(*early)
        if len(self._away) > self._max_sessions:
            self._pop(next(iter(self._away)))

    def told(self, session: str, declared: Declared, now_s: float) -> None:
        """Something is said of the session's gap between two turns: while it lasts, or while the answer is being written.

        `gap_s` counts from now, as whoever says it does not know when the answer ended.
        """
        if not declared.gap_said:
            return
        one = self._away.get(session)
        if one is not None:
            one.declare(declared, now_s)
            return
        self._early.pop(session, None)
        self._early[session] = (declared, now_s)
        if len(self._early) > _MOST_EARLY:
            self._early.popitem(last=False)

    def back(self, turn: Turn, now_s: float) -> None:
        """A turn of the session arrived."""
        one = self._pop(turn.session)
        self._early.pop(turn.session, None)  # it was said of the gap that is over
        if one is None:
            return
        gap_s = now_s - one.since_s
        self.gaps.learn(turn.program, _ANY, gap_s)
        self._n_learned += 1
        if one.declared is not None:
            self._judge(one.program, right=_is_right(one.declared.gap_s, gap_s))

    def over(self, run: str) -> list[str]:
        """The run has ended: its sessions that were away, which never come back."""
        gone = sorted(self._sessions.get(run, ()))
        for session in gone:
            one = self._pop(session)
            if one is not None:
                self.gaps.learn_end(one.program, _ANY)
                if one.declared is not None:
                    self._judge(one.program, right=one.declared.gap_s is None)
        return gone

    def weight(self, session: str, away_s: float) -> float:
        """0 to 1: how much of what it left in a cache is needed."""
        one = self._away.get(session)
        if one is None or away_s >= self._policy.keep_s:
            return 0.0
        guess = self._chance(one.program, away_s)
        if one.declared is None or not self._policy.hints:
            return guess
        trust = self.trust(one.program)
        return trust * self._said(one.declared, away_s) + (1 - trust) * guess

    def _chance(self, program: str, away_s: float) -> float:
        """As the gap model says it, or said it a few gaps ago: the same few absences are asked for all the time."""
        known = self._chances.get((program, away_s))
        if known is not None and self._n_learned - known[1] < _FRESH_GAPS:
            return known[0]
        found = self.gaps.chance(program, _ANY, away_s, self._policy.return_within_s)
        if len(self._chances) >= _MOST_CHANCES:
            self._chances.clear()
        self._chances[program, away_s] = (found, self._n_learned)
        return found

    def _said(self, declared: Declared, away_s: float) -> float:
        if declared.gap_s is None or away_s > _RIGHT_FACTOR * declared.gap_s:
            return 0.0
        return float(declared.gap_s - away_s <= self._policy.return_within_s)

    def _judge(self, program: str, *, right: bool) -> None:
        before = self.trust(program)
        self._trust[program] = before + _TRUST_WEIGHT * (right - before)

    def _pop(self, session: str) -> _Away | None:
        one = self._away.pop(session, None)
        if one is not None:
            sessions = self._sessions[one.run]
            sessions.discard(session)
            if not sessions:
                del self._sessions[one.run]
        return one


def _of_gap(declared: Declared | None) -> Declared | None:
    return declared if declared is not None and declared.gap_said else None


def _is_right(declared_s: float | None, gap_s: float) -> bool:
    if declared_s is None:
        return False
    low, high = sorted((max(declared_s, 1.0), max(gap_s, 1.0)))  # under a second nobody needs to know
    return high <= _RIGHT_FACTOR * low
