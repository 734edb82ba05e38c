"""The session graph of one run: sessions as paths in a prefix tree of blocks; what of a prompt is new, reused, lost, and why.

Bounded: at most `max_sessions` (the one seen longest ago goes first, counted), at most `max_blocks` boundaries each, older
ones merged. Reuse is what a cache without a limit would have; which replica still has it is the ledger's to know.
Not modelled: an answer is part of a path only once the next prompt repeats it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.program.blocks import Block
from agentic_serving.program.graph_path import MERGED, Path

__all__ = ["Delta", "Divergence", "Match", "SessionGraph"]

Divergence = Literal[
    "none", "append", "fork", "join", "compaction", "abandoned branch", "dropped reasoning", "edit"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a prompt is to what was seen before; estimated tokens.

    Attributes:
        reused: of this prompt, the longest prefix that any session of the graph has sent.
        new: the rest of this prompt.
        lost: of this session's last prompt, what this one no longer has.
        base: the session whose prefix is reused; None where nothing is.
    """

    new: int
    reused: int
    lost: int
    divergence: Divergence
    base: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """The session that a prompt goes on from, most likely; confidence 0..1, 0 if only tools and system agree."""

    session: str
    tokens: int
    confidence: float


class _Live:
    __slots__ = ("child_seen", "parent", "path", "seen_s")

    def __init__(self) -> None:
        self.path = Path()
        self.parent: str | None = None
        self.seen_s = 0.0
        self.child_seen = False


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
        self._owners: dict[int, str] = {}  # anchor -> the session that had it last
        self._now_s = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    def observe(
        self, session: str, blocks: Sequence[Block], now_s: float, *, parent: str | None = None
    ) -> Delta:
        """A turn of a session arrived. A child's turn makes the parent's next one, if it appends, a join."""
        self._now_s = max(self._now_s, now_s)
        path = Path(blocks)
        live = self._sessions.get(session)
        base, shared = self._longest(path)
        delta = self._delta(live, path, base, shared)
        self._store(session, path, parent)
        return delta

    def infer(self, blocks: Sequence[Block]) -> Match | None:
        """The session with the longest common prefix, for a request that names none."""
        path = Path(blocks)
        base, shared = self._longest(path)
        if base is None:
            return None
        other = self._sessions[base].path
        mine, _ = other.common(path)
        whole = sum(other.tokens[other.head() :])
        beyond = sum(other.tokens[other.head() : mine])
        return Match(base, sum(path.tokens[:shared]), beyond / whole if whole else 0.0)

    def remove(self, session: str) -> bool:
        """The session has ended; False if it was not there."""
        live = self._sessions.pop(session, None)
        if live is not None:
            self._forget(session, live.path)
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
            lengths = {len(getattr(live.path, name)) for name in Path.__slots__}
            if len(lengths) != 1 or len(live.path) > self._max_blocks:
                raise Bug(f"path of {session} is uneven or too long")
        anchors = {session: set(live.path.anchors()) for session, live in self._sessions.items()}
        for chain, owner in self._owners.items():
            if chain not in anchors.get(owner, ()):
                raise Bug(f"an anchor names {owner}, which does not have it")
        seen = [live.seen_s for live in self._sessions.values()]
        if seen != sorted(seen):
            raise Bug("sessions are not in the order in which they were seen")

    def _longest(self, path: Path) -> tuple[str | None, int]:
        """The owner of the longest known prefix, and how many of the path's blocks it has in common."""
        for i in range(len(path) - 1, -1, -1):
            owner = self._owners.get(path.chains[i])
            if owner is not None:
                return owner, path.common(self._sessions[owner].path)[0]
        return None, 0

    def _delta(self, live: _Live | None, path: Path, base: str | None, shared: int) -> Delta:
        was = live.path if live else Path()
        kept, mine = was.common(path)
        reused = sum(path.tokens[: max(mine, shared)])
        return Delta(
            new=sum(path.tokens) - reused,
            reused=reused,
            lost=sum(was.tokens[kept:]),
            divergence=_why(live, path, kept, mine, forked=shared > mine),
            base=base if reused else None,
        )

    def _store(self, session: str, path: Path, parent: str | None) -> None:
        live = self._sessions.pop(session, None) or _Live()
        self._forget(session, live.path)
        path.merge(self._max_blocks)
        live.path, live.seen_s, live.child_seen = path, self._now_s, False
        live.parent = parent or live.parent
        self._sessions[session] = live
        for chain in path.anchors():
            self._owners[chain] = session
        if live.parent is not None and live.parent in self._sessions and live.parent != session:
            self._sessions[live.parent].child_seen = True
        while len(self._sessions) > self._max_sessions:
            self.remove(next(iter(self._sessions)))
            self.evicted += 1

    def _forget(self, session: str, path: Path) -> None:
        for chain in path.anchors():
            if self._owners.get(chain) == session:
                del self._owners[chain]


def _why(live: _Live | None, path: Path, kept: int, mine: int, *, forked: bool) -> Divergence:
    """The first rule that fits; the order is from certain to likely."""
    if live is None:
        return "fork" if forked else "append"
    was = live.path
    if kept == len(was):
        if mine == len(path):
            return "none"
        return "join" if live.child_seen else "append"
    if _dropped_reasoning(was, kept, path, mine):
        return "dropped reasoning"
    old = set(was.contents[kept + 1 :]) - {MERGED}
    if old & set(path.contents[mine:]):
        return "edit"
    if kept <= was.head() + 1 and sum(path.tokens) < sum(was.tokens):
        return "compaction"
    return "abandoned branch" if kept > was.head() else "edit"


def _dropped_reasoning(was: Path, kept: int, path: Path, mine: int) -> bool:
    """The old blocks are all still there, but for reasoning."""
    old = [was.contents[i] for i in range(kept, len(was)) if was.kind(i) != "Reasoning"]
    now = [path.contents[i] for i in range(mine, len(path)) if path.kind(i) != "Reasoning"]
    return len(old) < len(was) - kept and MERGED not in old and now[: len(old)] == old
