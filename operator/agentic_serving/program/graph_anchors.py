"""Who has which prefix: an index from anchors (chains of a few chosen boundaries) to the sessions that have them.

Bounded: of the sessions that share an anchor, at most four are named, the rest are counted. When the last named one leaves, others
take over: nothing that a session of the graph still has is forgotten, but for the bound on the search.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from agentic_serving.errors import Bug

__all__ = ["Anchors"]

#: More names find more of the siblings whose common prefix is longer than the anchor says; 8 bytes each.
_NAMED = 4

Holders = Callable[[int], Iterator[str]]


class _Shared:
    """An anchor of several sessions."""

    __slots__ = ("count", "names")

    def __init__(self, count: int, names: tuple[str, ...]) -> None:
        self.count, self.names = count, names


class Anchors:
    """The index."""

    def __init__(self) -> None:
        self._owners: dict[int, str | _Shared] = {}  # one owner is the usual case, and smaller

    def __len__(self) -> int:
        return len(self._owners)

    def owners(self, anchor: int) -> tuple[str, ...]:
        """Up to four sessions that have it, the last to come first."""
        found = self._owners.get(anchor)
        if found is None:
            return ()
        return (found,) if isinstance(found, str) else found.names

    def known(self, chains: Iterable[int]) -> list[int]:
        """Those that are anchors, in their order."""
        return [chain for chain in chains if chain in self._owners]

    def add(self, session: str, anchors: Iterable[int]) -> None:
        """A session that did not have these anchors has them."""
        for anchor in anchors:
            found = self._owners.get(anchor)
            if found is None:
                self._owners[anchor] = session
            elif isinstance(found, str):
                self._owners[anchor] = _Shared(2, (session, found))
            else:
                found.count += 1
                found.names = (session, *found.names[: _NAMED - 1])

    def add_older(self, session: str, anchor: int) -> None:
        """The same, of a session that came before all that are named."""
        found = self._owners.get(anchor)
        if isinstance(found, _Shared):
            found.count += 1
            found.names = (*found.names, session)[:_NAMED]
        else:
            self._owners[anchor] = session if found is None else _Shared(2, (found, session))

    def drop(self, session: str, anchors: Iterable[int], holders: Holders) -> None:
        """A session that had these anchors no longer has them.

        Args:
            holders: sessions that have this anchor, the likeliest to stay first; this one no more. It is not kept: it is
                the graph's, and what names its owner is freed by nobody but the collector of cycles.
        """
        for anchor in anchors:
            found = self._owners.get(anchor)
            if isinstance(found, str):
                del self._owners[anchor]
            elif found is not None:
                self._leave(session, anchor, found, holders)

    def check(self, anchors: dict[str, set[int]]) -> None:
        """Raises Bug where the index and the sessions' anchors disagree."""
        for anchor, found in self._owners.items():
            count, names = (1, (found,)) if isinstance(found, str) else (found.count, found.names)
            having = {session for session, theirs in anchors.items() if anchor in theirs}
            if len(having) != count or not having.issuperset(names) or len(set(names)) != len(names):
                raise Bug(f"an anchor names {names} and counts {count} sessions; {sorted(having)} have it")
        if missing := set().union(*anchors.values()) - self._owners.keys():
            raise Bug(f"{len(missing)} anchors are not in the index")

    def _leave(self, session: str, anchor: int, found: _Shared, holders: Holders) -> None:
        found.count -= 1
        found.names = tuple(name for name in found.names if name != session)
        if not found.names:
            found.names = tuple(islice(holders(anchor), _NAMED))
        if found.count == 1 and found.names:
            self._owners[anchor] = found.names[0]
        elif not found.names:
            del self._owners[anchor]
