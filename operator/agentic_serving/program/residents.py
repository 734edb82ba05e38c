"""Who needs what of each cache: tokens in use, and idle tokens by the chance that their session is back soon.

A replica is full for newcomers when what its sessions will need again fills it, not when its cache has no free block: an
engine's cache is always full. What counts falls with every second that a session stays away, in steps (`_AGES`), so
that a change costs the same with any number of sessions.
"""

from collections import Counter, deque
from collections.abc import Callable

from agentic_serving.errors import Bug

__all__ = ["Residents"]

#: Absences after which a session's weight is looked up again, in 120ths of the longest that counts (with `keep_s` at its
#: default: seconds); half as long again each time.
_AGES = (0, 3, 7, 12, 20, 30, 45, 60, 90, 120)

#: (session, seconds of absence) → weight 0..1 and tokens that are still there; weight 0: forget it.
Look = Callable[[str, float], tuple[float, int]]


class _Resident:
    __slots__ = ("needed", "replica", "serial")

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.needed = 0.0
        self.serial = 0  # a timer with another one is void


class Residents:
    """Sessions and the replica where each was last. Call `advance` before asking.

    Attributes:
        ages_s: seconds of absence at which a weight is looked up; after the last, nothing is needed any more.
    """

    def __init__(self, look: Look, *, keep_s: float) -> None:
        self._look = look
        self.configure(keep_s)
        self._residents: dict[str, _Resident] = {}
        self._needed: dict[str, float] = {}
        self._count: Counter[str] = Counter()
        #: By step: (when it is over, session, serial). Equal lengths: the first to begin is the first to end.
        self._timers: tuple[deque[tuple[float, str, int]], ...] = tuple(deque() for _ in _AGES[1:])

    def configure(self, keep_s: float) -> None:
        """Absences that last longer do not count. Those that are under way take their next step as they would have."""
        self.ages_s = tuple(keep_s * age / _AGES[-1] for age in _AGES)

    def __len__(self) -> int:
        return len(self._residents)

    def needed(self, replica: str) -> float:
        """Tokens that are in use there, or will probably be again soon."""
        return self._needed.get(replica, 0.0)

    def count(self, replica: str) -> int:
        """Sessions that were there last, and of which something may be needed."""
        return self._count[replica]

    def needs(self, session: str, replica: str) -> float:
        """What of that is this session's."""
        found = self._residents.get(session)
        return found.needed if found and found.replica == replica else 0.0

    def own(self, session: str) -> float:
        """What it needs where it was last."""
        found = self._residents.get(session)
        return found.needed if found else 0.0

    def home(self, session: str) -> str | None:
        """Where it was last; None: nowhere, or too long ago."""
        found = self._residents.get(session)
        return found.replica if found else None

    def use(self, session: str, replica: str, tokens: int) -> None:
        """A turn is there, or waits and will be: all of its tokens are needed."""
        found = self._residents.get(session)
        if found is None:
            found = self._residents[session] = _Resident(replica)
            self._count[replica] += 1
        elif found.replica != replica:
            self._set(found, 0.0)
            self._count[found.replica] -= 1
            self._count[replica] += 1
            found.replica = replica
        found.serial += 1
        self._set(found, float(tokens))

    def rest(self, session: str, now_s: float) -> None:
        """Its last turn has ended."""
        found = self._residents.get(session)
        if found is not None:
            found.serial += 1
            self._age(session, found, 0, now_s)

    def forget(self, session: str) -> None:
        """It is over, or not here any more."""
        found = self._residents.pop(session, None)
        if found is not None:
            self._set(found, 0.0)
            self._count[found.replica] -= 1

    def gone(self, replica: str) -> None:
        """The replica is no more. Rare: looks at every session."""
        for session in [name for name, one in self._residents.items() if one.replica == replica]:
            self.forget(session)
        self._needed.pop(replica, None)
        self._count.pop(replica, None)

    def advance(self, now_s: float) -> None:
        """Time has passed."""
        for step, timers in enumerate(self._timers):
            while timers and timers[0][0] <= now_s:
                at_s, session, serial = timers.popleft()
                found = self._residents.get(session)
                if found is not None and found.serial == serial:
                    self._age(session, found, step + 1, at_s)

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        sums: dict[str, float] = dict.fromkeys(self._needed, 0.0)
        counts = Counter(one.replica for one in self._residents.values())
        if any(counts[replica] != n for replica, n in self._count.items()):
            raise Bug("residents are miscounted")
        for one in self._residents.values():
            sums[one.replica] = sums.get(one.replica, 0.0) + one.needed
        for replica, total in sums.items():
            if abs(total - self.needed(replica)) > 1.0:
                raise Bug(f"what sessions need of {replica} does not add up")

    def _age(self, session: str, found: _Resident, step: int, at_s: float) -> None:
        if step >= len(self._timers):
            self.forget(session)
            return
        weight, tokens = self._look(session, self.ages_s[step])
        if weight <= 0:
            self.forget(session)
            return
        self._set(found, weight * tokens)
        over_s = at_s + self.ages_s[step + 1] - self.ages_s[step]
        self._timers[step].append((over_s, session, found.serial))

    def _set(self, found: _Resident, needed: float) -> None:
        self._needed[found.replica] = self._needed.get(found.replica, 0.0) + needed - found.needed
        found.needed = needed
