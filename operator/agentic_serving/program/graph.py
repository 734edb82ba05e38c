"""The session graph of one run: sessions as paths in a prefix tree of blocks; what of a prompt is new, reused, lost, and why.

Bounded: at most `max_sessions` (the one seen longest ago goes first, counted), at most `max_blocks` boundaries each, older
ones merged. Reuse is what a cache without a limit would have; which replica still has it is the ledger's to know.
Not modelled: an answer is part of a path only once the next prompt repeats it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.program.divergence import Divergence, dropped_reasoning, why
from agentic_serving.program.graph_anchors import Anchors
from agentic_serving.program.graph_path import Path
from agentic_serving.program.prompt import Block, possible

__all__ = ["Delta", "Divergence", "Match", "SessionGraph"]

#: Sessions looked at for the longest common prefix; for who has what another one leaves behind, and whose child a new one is.
_CANDIDATES, _HEIRS = 8, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a prompt is to what was seen before; estimated tokens.

    Attributes:
        reused: of this prompt, the longest prefix of any session's last one, in tokens as that one was counted.
        new: the rest of this prompt.
        lost: of this session's last prompt, what this one no longer has.
        reasoning: of what is lost, reasoning that this prompt has nowhere: freed for good, where the rest comes back.
        base: the session whose prefix is reused; None where nothing is.
        inferred: it is a join by its structure; nobody said whose child joins.
    """

    new: int
    reused: int
    lost: int
    reasoning: int
    divergence: Divergence
    base: str | None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """The session that a prompt goes on from, most likely; confidence 0..1, 0 if only tools and system agree."""

    session: str
    tokens: int
    confidence: float


class _Live:
    """A session. `told`: its parent was said; `child_seen`, `child_told`: since its last turn a child sent one, and was said to be one."""

    __slots__ = ("child_seen", "child_told", "parent", "path", "seen_s", "told")

    def __init__(self) -> None:
        self.path = Path()
        self.parent: str | None = None
        self.told = False
        self.seen_s = 0.0
        self.child_seen = self.child_told = False


class SessionGraph:
    """Sessions of a run. Time never goes back: an earlier `now_s` counts as the latest."""

    def __init__(self, *, max_sessions: int = 10_000, max_blocks: int = 256) -> None:
        if max_sessions < 1:
            raise InvalidInput("max_sessions", "must be at least 1")
        if max_blocks < 8:
            raise InvalidInput("max_blocks", "must be at least 8")
        self.evicted = 0
        self._max_sessions = max_sessions
        self._max_blocks = max_blocks
        self._sessions: OrderedDict[str, _Live] = OrderedDict()  # the one seen longest ago first
        self._anchors = Anchors()
        self._now_s = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    def observe(
        self, session: str, blocks: Sequence[Block], now_s: float, *, parent: str | None = None
    ) -> Delta:
        """A turn of a session arrived. A child's turn makes the parent's next one, if it appends, a join.

        Args:
            parent: where it is not said, a parent is inferred if there is one answer only (`_likely_parent`).
        """
        self._now_s = max(self._now_s, now_s)
        path = Path(blocks)
        live = self._sessions.get(session)
        delta = self._delta(session, path)
        if live is None:
            live = _Live()
            live.parent = self._likely_parent(path)
        if parent is not None and parent != session:
            live.parent, live.told = parent, True
        self._store(session, live, path)
        return delta

    def reported(self, session: str, n_bytes: int, tokens: int) -> bool:
        """An engine counted a prompt of this session: what of it is reused or lost later is no longer estimated by bytes alone.

        Args:
            n_bytes: of the blocks that were counted (`Prompt.n_bytes`).

        Returns:
            False where the session is gone or the report cannot be true (`TokenRate.learn`).
        """
        live = self._sessions.get(session)
        if live is None or not possible(n_bytes, tokens):
            return False
        live.path.tokens_per_byte = tokens / n_bytes
        return True

    def infer(self, blocks: Sequence[Block]) -> Match | None:
        """The session with the longest common prefix, for a request that names none."""
        path = Path(blocks)
        places = path.places()
        base, kept, _ = self._longest(path, places)
        if base is None:
            return None
        other = self._sessions[base].path
        head = other.head()
        whole, beyond = other.tokens(head), other.tokens(head, max(head, kept))
        return Match(base, other.tokens(0, kept), beyond / whole if whole else 0.0)

    def sharers(
        self, session: str, blocks: Sequence[Block], limit: int = _CANDIDATES
    ) -> list[tuple[str, int]]:
        """Other sessions whose last prompt begins as this one does, and the tokens of that, most first."""
        path = Path(blocks)
        found = self._common(path, path.places())
        tokens = [
            (name, self._sessions[name].path.tokens(0, kept))
            for name, (kept, _) in found.items()
            if name != session
        ]
        return sorted((one for one in tokens if one[1]), key=lambda one: -one[1])[:limit]

    def remove(self, session: str) -> bool:
        """The session has ended; False if it was not there."""
        live = self._sessions.pop(session, None)
        if live is not None:
            self._anchors.drop(session, live.path.anchors(), self._holders)
        return live is not None

    def expire(self, now_s: float, idle_s: float) -> list[str]:
        """Remove and return the sessions not seen for over `idle_s`."""
        self._now_s = max(self._now_s, now_s)
        gone: list[str] = []
        while self._sessions:
            session, live = next(iter(self._sessions.items()))
            if self._now_s - live.seen_s <= idle_s:
                break
            self.remove(session)
            gone.append(session)
        return gone

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        if len(self._sessions) > self._max_sessions:
            raise Bug("more sessions than allowed")
        for session, live in self._sessions.items():
            path = live.path
            lengths = {len(column) for column in (path.chains, path.contents, path.sizes, path.kinds)}
            if len(lengths) != 1 or len(live.path) > self._max_blocks:
                raise Bug(f"path of {session} is uneven or too long")
        self._anchors.check({session: live.path.anchors() for session, live in self._sessions.items()})
        seen = [live.seen_s for live in self._sessions.values()]
        if seen != sorted(seen):
            raise Bug("sessions are not in the order in which they were seen")

    def _longest(self, path: Path, places: Mapping[int, int]) -> tuple[str | None, int, int]:
        """The session with the longest known prefix: how many of its boundaries that is, and of the path's."""
        found = self._common(path, places)
        best = max(found, key=lambda owner: found[owner][1], default=None)
        return (best, *found[best]) if best is not None else (None, 0, 0)

    def _common(self, path: Path, places: Mapping[int, int]) -> dict[str, tuple[int, int]]:
        """Sessions with long known prefixes: how many of their boundaries those are, and of the path's."""
        found: dict[str, tuple[int, int]] = {}
        for anchor in reversed(self._anchors.known(path.chains)):
            for owner in self._anchors.owners(anchor):
                if owner not in found:
                    found[owner] = self._sessions[owner].path.common(places)
            if len(found) >= _CANDIDATES:
                break
        return found

    def _holders(self, anchor: int) -> Iterator[str]:
        """Sessions with this anchor among those seen last."""
        for session, live in islice(reversed(self._sessions.items()), _HEIRS):
            if anchor in live.path.anchors():
                yield session

    def _delta(self, session: str, path: Path) -> Delta:
        live = self._sessions.get(session)
        was = live.path if live else Path()
        base: str | None = session
        if path.goes_on(was) and not self._anchors.known(path.chains[was.whole :]):
            # The usual case, and the quick one: nobody has more of it than the session itself.
            kept, mine = theirs, shared = len(was), was.whole
        else:
            places = path.places()
            kept, mine = was.common(places)
            base, theirs, shared = self._longest(path, places)
            if live is not None and mine >= shared:
                base, theirs, shared = session, kept, mine
        reused = self._sessions[base].path.tokens(0, theirs) if base is not None else 0
        divergence = _why(live, kept, path, mine, forked=base is not None)
        return Delta(
            new=path.tokens(shared),
            reused=reused,
            lost=was.tokens(kept),
            reasoning=dropped_reasoning(was, kept, path, mine),
            divergence=divergence,
            base=base if reused else None,
            inferred=divergence == "join" and live is not None and not live.child_told,
        )

    def _likely_parent(self, path: Path) -> str | None:
        """Of a new session: who the parent of those is that have the same tools and system prompt; else, the only session of the
        run that has no parent, if its own are different ones. Siblings share theirs with each other and not with their parent."""
        n = path.head()
        if not n:
            return None
        alike = self._anchors.owners(path.chains[n - 1])
        for session in alike:
            if (parent := self._sessions[session].parent) in self._sessions:
                return parent
        if alike or len(self._sessions) > _HEIRS:
            return None
        roots = [session for session, live in self._sessions.items() if live.parent is None]
        return roots[0] if len(roots) == 1 else None

    def _store(self, session: str, live: _Live, path: Path) -> None:
        before = live.path.anchors()
        if len(live.path) < live.path.whole and path.goes_on(live.path):
            path.adopt(live.path)
        path.merge(self._max_blocks)
        after = path.anchors()
        live.path, live.seen_s, live.child_seen, live.child_told = path, self._now_s, False, False
        self._sessions[session] = live
        self._sessions.move_to_end(session)
        self._anchors.drop(session, before - after, self._holders)
        self._anchors.add(session, after - before)
        if live.parent is not None:
            self._tell(live.parent, live)
        while len(self._sessions) > self._max_sessions:
            self.remove(next(iter(self._sessions)))
            self.evicted += 1

    def _tell(self, parent: str, child: _Live) -> None:
        told = self._sessions.get(parent)
        if told is not None:
            told.child_seen = True
            told.child_told = told.child_told or child.told


def _why(live: _Live | None, kept: int, path: Path, mine: int, *, forked: bool) -> Divergence:
    if live is None:
        return "fork" if forked else "append"
    found = why(live.path, kept, path, mine)
    if found != "append" or not live.child_seen:
        return found
    # Where nobody said that it has children, what they return must have come at least: a tool's result.
    returned = any(path.role(i) == "tool" for i in range(mine, len(path)))
    return "join" if live.child_told or returned else found
