"""Whose knowledge has changed since it was last written: by name only, so that however long the store is away it is bounded.

What is written is what is known at that moment, not what happened: a session that had ten turns meanwhile is written once.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from agentic_serving.router.words import Came, Done, Note, Over

__all__ = ["Journal"]

#: Twice as many as the registry has sessions: all of them, and as many that have gone since.
_MOST_NAMES = 400_000
#: Calls between their coming and their end.
_MOST_CALLS = 100_000
#: Ends of runs that other stacks have not been told of.
_MOST_ENDS = 10_000


class Journal:
    """Listens to the desk; a note costs a few dictionary entries.

    Attributes:
        overflowed: names were dropped: what the store has may include sessions that are over.
        dropped: names and ends that were.
    """

    def __init__(self) -> None:
        self.overflowed = False
        self.dropped = 0
        self._changed: dict[str, None] = {}
        self._calls: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._ends: dict[str, None] = {}
        self._quiet = False

    def __len__(self) -> int:
        """Names that are to be written."""
        return len(self._changed)

    def hear(self, note: Note, now_s: float) -> None:  # noqa: ARG002 - as every listener
        match note:
            case Came():
                self._came(note)
            case Done():
                if (call := self._calls.pop(note.call_id, None)) is not None:
                    self.mark(call)
            case Over():
                self.mark((note.session,))
                if note.session == note.run and note.why == "ended" and not self._quiet:
                    self._end(note.run)

    def mark(self, names: Iterable[str]) -> None:
        """They have changed."""
        for name in names:
            if len(self._changed) >= _MOST_NAMES and name not in self._changed:
                self.overflowed = True
                self.dropped += 1
            else:
                self._changed[name] = None

    def take(self, limit: int) -> list[str]:
        """Names to write now; give back those that could not be."""
        found = list(islice(self._changed, limit))
        for name in found:
            del self._changed[name]
        return found

    def take_ends(self, limit: int) -> list[str]:
        """Runs whose clients said here that they are over, for other stacks; the same."""
        found = list(islice(self._ends, limit))
        for run in found:
            del self._ends[run]
        return found

    def give_back(self, names: Iterable[str], ends: Iterable[str] = ()) -> None:
        self.mark(names)
        for run in ends:
            self._end(run)

    def quietly(self, *, quiet: bool) -> None:
        """While ends from elsewhere are carried out, which need not be told again."""
        self._quiet = quiet

    def clear(self) -> None:
        """Somebody else writes from here on."""
        self._changed.clear()
        self._ends.clear()
        self.overflowed = False

    def _came(self, note: Came) -> None:
        if note.kind == "side":
            return
        # The parent too: its place in the run may be what its child has just said of it.
        names = (note.session, note.run, *((note.parent,) if note.parent else ()))
        self._calls[note.call_id] = names
        if len(self._calls) > _MOST_CALLS:
            self._calls.popitem(last=False)
        # A session's place in its run, and a task's beginning, are known now; the rest when the turn has ended.
        if note.turn == 0 or note.kind == "human":
            self.mark(names)

    def _end(self, run: str) -> None:
        if len(self._ends) < _MOST_ENDS:
            self._ends[run] = None
        else:
            self.dropped += 1
