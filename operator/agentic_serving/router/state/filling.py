"""What was read of the store becomes what the desk knows: the sessions seen last first, in slices, beside serving.

A session whose next turn comes before it was its turn is brought in by `recall`, with those above it.
"""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from agentic_serving.program.keeping import learned, restore
from agentic_serving.program.keeping.kept import Home, Kept, Learned, World
from agentic_serving.program.tree import MAX_DEPTH
from agentic_serving.router.state import records
from agentic_serving.router.state.shared import SharedService

__all__ = ["Filling", "uncollected"]

#: How long replicas that the journal names may take to be seen; the cache of one that comes later is taken for empty.
_REPLICAS_WITHIN_S = 60.0


@dataclass(slots=True)
class _Later:
    """What waits for a replica: the sessions seen last first."""

    homes: list[tuple[str, Home]] = field(default_factory=list)
    rests: list[Kept] = field(default_factory=list)


class Filling:
    """
    Args:
        offset_s: wall clock less the host's clock.
        idle_s: sessions not seen for longer are over.
        again: the same desk was filled, and has written, before.

    Attributes:
        restored: sessions.
        refused: records that could not be read.
    """

    def __init__(
        self, world: World, *, offset_s: float, now_s: float, idle_s: float, again: bool = False
    ) -> None:
        self.restored = 0
        self.refused = 0
        self._world = world
        self._again = again
        self._offset_s = offset_s
        self._until_s = now_s + _REPLICAS_WITHIN_S
        self._after_s = now_s + offset_s - idle_s  # on the wall clock
        self._raw: dict[str, bytes] = {}
        #: By second, so that no more than one second's sessions are sorted at a time.
        self._seen: dict[int, list[tuple[float, str]]] = {}
        self._later: dict[str, _Later] = {}
        self._learned: Learned | None = None
        self._replicas: set[str] = set()  # whose own figures were given back

    @property
    def pending(self) -> int:
        """Sessions that are to come."""
        return len(self._raw)

    def learned(self, text: bytes) -> None:
        """Before the sessions: what they are weighed by."""
        found = records.learned_from(text)
        if found is None:
            self.refused += 1
            return
        self._learned = found
        learned.learned(self._world, found)

    def add(self, raw: Iterable[bytes]) -> None:
        """Records as they were read."""
        for record in raw:
            told = records.head(record)
            if told is None:
                self.refused += 1
            elif told[0] >= self._after_s:
                self._raw[told[1]] = record
                self._seen.setdefault(int(told[0]), []).append(told)

    def slices(self, n: int, clock: Callable[[], float]) -> Iterator[None]:
        """When all have been added: bring in so many at a time, until all are there."""
        order = self._order()
        while names := [name for _, name in islice(order, n)]:
            now_s = clock()
            self.replicas(now_s)
            for name in names:
                self.recall(name, now_s)
            yield

    def recaller(self, clock: Callable[[], float]) -> Callable[[str], None]:
        """For the desk, which has a session and no time to give."""
        return lambda name: self.recall(name, clock())

    def recall(self, name: str, now_s: float) -> None:
        """A session, and those above it; nothing if it is there or not known."""
        kept = self._read(name)
        chain: list[Kept] = []
        while kept is not None and len(chain) <= MAX_DEPTH:
            chain.append(kept)
            kept = self._read(kept.parent) if kept.parent else None
        for one in reversed(chain):
            self._restore(one, now_s)

    def replicas(self, now_s: float) -> None:
        """Some may have been seen since."""
        for name in [one for one in self._later if self._ready(one)]:
            later = self._later.pop(name)
            for session, home in later.homes:
                restore.home(self._world.scheduler.ledger, session, home)
            for kept in later.rests:
                self._rest(kept, now_s)
        if now_s > self._until_s:
            self._later.clear()

    def finish(self, now_s: float) -> bool:
        """After the last slice: what else lies in the caches. False: not all replicas have been seen; ask again."""
        self.replicas(now_s)
        if self._later:
            return False
        for name, told in (self._learned.replicas if self._learned else {}).items():
            if self._ready(name):
                restore.remainder(self._world.scheduler.ledger, name, told[1])
        return True

    def _order(self) -> Iterator[tuple[float, str]]:
        """The session seen last first."""
        for second in sorted(self._seen, reverse=True):
            yield from sorted(self._seen.pop(second), reverse=True)

    def _read(self, name: str) -> Kept | None:
        record = self._raw.pop(name, None)
        if record is None:
            return None
        kept = records.decode(record, self._offset_s)
        self.refused += kept is None
        return kept

    def _restore(self, kept: Kept, now_s: float) -> None:
        if not restore.session(self._world, kept, now_s, again=self._again):
            return
        self.restored += 1
        service = self._world.scheduler.service
        if kept.task is not None and isinstance(service, SharedService):
            since_s = kept.task.since_s + self._offset_s if kept.task.began else 0.0
            service.restore_others(kept.name, since_s, kept.task.others)
        for home in kept.homes:
            if self._ready(home.replica):
                restore.home(self._world.scheduler.ledger, kept.name, home)
            else:
                self._later.setdefault(home.replica, _Later()).homes.append((kept.name, home))
        self._rest(kept, now_s)

    def _rest(self, kept: Kept, now_s: float) -> None:
        if kept.away is None or not kept.away.replica:
            return
        if self._ready(kept.away.replica):
            restore.rest(self._world.scheduler.residents, kept.name, kept.away, now_s)
        else:
            self._later.setdefault(kept.away.replica, _Later()).rests.append(kept)

    def _ready(self, replica: str) -> bool:
        """It is known, and as it was."""
        if replica in self._replicas:
            return True
        ready = learned.replica(self._world, self._learned or Learned(), replica)
        if ready:
            self._replicas.add(replica)
        return ready


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """While a hundred thousand sessions are made, the cycle collector would look through them again and again: half of the time, and a
    second at a time. They are kept out of its sight from then on: what is over is freed as its last reference goes."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
