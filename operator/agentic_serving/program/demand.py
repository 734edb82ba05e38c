"""How many tokens the sessions that are away will want soon: each by its chance to return, kept as a running sum.

A session's chance is asked again when it has been away twice as long, so a wait of an hour costs about 13 questions. It is
asked for the middle of the time until then: a single part may be off by a third, their sum is not off to one side.
"""

from heapq import heapify, heappop, heappush

from agentic_serving.errors import Bug
from agentic_serving.program.gaps import GapModel

__all__ = ["Demand"]

#: Tokens wanted within this time count: a minute is what a scale-up or a move of sessions needs to be of use.
WITHIN_S = 60.0
#: A chance is asked again after this share of the time away, at the earliest after a second, up to the model's last bucket.
_AGAIN = 1.0
_SOONEST_S = 1.0
_LAST_S = 6 * 3600.0
#: So many chances at most are asked in one call (about 10 us each); the others are asked in the next ones.
_AT_ONCE = 16


class _Away:
    """A session between two turns."""

    __slots__ = ("cause", "counted", "program", "session", "since_s", "tokens")

    def __init__(self, session: str, tokens: int, program: str, cause: str, since_s: float) -> None:
        self.session = session
        self.tokens = tokens
        self.program = program
        self.cause = cause
        self.since_s = since_s
        self.counted = 0.0  # its part of the sum


class Demand:
    """The sum over the sessions that are away, and when each part of it is to be renewed."""

    __slots__ = ("_away", "_due", "_gaps", "_n_away", "_sum")

    def __init__(self, gaps: GapModel) -> None:
        self._gaps = gaps
        self._away: dict[str, _Away] = {}
        self._due: list[tuple[float, int, _Away]] = []
        self._n_away = 0  # keeps equal times in order
        self._sum = 0.0

    def __len__(self) -> int:
        return len(self._away)

    def away(self, session: str, tokens: int, waits: tuple[str, str], now_s: float) -> None:
        """A session waits for something, and will want so many tokens when it returns.

        Args:
            waits: its program, and for what: `human` or the tool's name.
        """
        self.back(session)
        made = _Away(session, tokens, *waits, now_s)
        self._away[session] = made
        self._count(made, now_s)

    def back(self, session: str) -> None:
        """It has returned, or never will."""
        found = self._away.pop(session, None)
        if found is None:
            return
        self._sum = self._sum - found.counted if self._away else 0.0
        if len(self._due) > 2 * len(self._away) + 1000:
            self._due = [one for one in self._due if self._away.get(one[2].session) is one[2]]
            heapify(self._due)

    def tokens(self, now_s: float) -> float:
        """Expected within the next minute."""
        asked = 0
        while self._due and self._due[0][0] <= now_s and asked < _AT_ONCE:
            _, _, one = heappop(self._due)
            asked += 1
            if self._away.get(one.session) is one:
                self._count(one, now_s)
        return max(0.0, self._sum)

    def _count(self, one: _Away, now_s: float) -> None:
        elapsed_s = max(0.0, now_s - one.since_s)
        if elapsed_s > _LAST_S:
            self.back(one.session)
            return
        until_s = max(_SOONEST_S, min(_AGAIN * elapsed_s, _LAST_S + _SOONEST_S - elapsed_s))
        middle_s = elapsed_s + until_s / 2
        counted = one.tokens * self._gaps.chance(one.program, one.cause, middle_s, WITHIN_S)
        self._sum += counted - one.counted
        one.counted = counted
        self._n_away += 1
        heappush(self._due, (now_s + until_s, self._n_away, one))

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        whole = sum(one.counted for one in self._away.values())
        if abs(whole - self._sum) > 1e-6 * max(1.0, whole):
            raise Bug("the expected demand is not the sum of its parts")
        waiting = {id(one) for _, _, one in self._due}
        if any(id(one) not in waiting for one in self._away.values()):
            raise Bug("a session's chance will never be asked again")
