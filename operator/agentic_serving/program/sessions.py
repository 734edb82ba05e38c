"""The live sessions and runs: which session a request is a turn of, which run that is, when both are over. Bounded.

What a request says of itself is `identity`'s; here is what takes memory: the tree of sessions, the sessions that nobody names, turns
in flight, the computed tokens that a session, a run and its current task have had.

Not modelled: tenants. Whoever opens sessions without end takes places from those idle longest, whoever these are.
"""

from collections.abc import Iterator
from typing import Literal

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.program.graph import Match
from agentic_serving.program.identity import GUESSED, SAID, Identity, TurnKind
from agentic_serving.program.session_types import Arrival, Gone, RunState, SessionState
from agentic_serving.program.tree import MAX_DEPTH, Node, Tree

__all__ = ["Arrival", "Gone", "RunState", "SessionState", "Sessions"]

#: Twice what one scheduler is to serve; at the measured size (docs/identity.md) under 200 MB.
_MAX_SESSIONS = 200_000
#: The newest session and all above it must fit, with others to evict.
_MIN_SESSIONS = 2 * MAX_DEPTH
#: A run that was silent for half an hour is over (docs/identity.md).
_IDLE_S = 1800.0
#: Below it, a likely session is not taken for the session. Half of what that session had sent beyond tools and system comes again.
_MIN_CONFIDENCE = 0.5
#: How many busy sessions eviction passes by before it takes one that is.
_MAX_PASSED_BY = 16
#: Their conversations offer tools in every turn.
_TOOL_CLIENTS = ("ClaudeCode", "Codex", "OpenCode")


class Sessions:
    """All live sessions of a stack. Time never goes back: an earlier `now_s` counts as the latest.

    Attributes:
        evicted: sessions that left because there were too many.
        idle_s: what `expire` goes by; may be changed.
    """

    def __init__(
        self,
        *,
        max_sessions: int = _MAX_SESSIONS,
        idle_s: float = _IDLE_S,
        min_confidence: float = _MIN_CONFIDENCE,
    ) -> None:
        if max_sessions < _MIN_SESSIONS:
            raise InvalidInput(
                "max_sessions", f"must be at least {_MIN_SESSIONS}: a whole branch is kept at once"
            )
        if not idle_s > 0:
            raise InvalidInput("idle_s", "must be above 0")
        self.evicted = 0
        self._tree = Tree()
        self._max_sessions = max_sessions
        self.idle_s = idle_s
        self._min_confidence = min_confidence
        self._made = 0
        self._now_s = 0.0

    def __len__(self) -> int:
        return len(self._tree.nodes)

    def __contains__(self, session: str) -> bool:
        return session in self._tree.nodes

    @property
    def refused(self) -> int:
        """Parents that were named and not believed."""
        return self._tree.refused

    def arrive(
        self, identity: Identity, now_s: float, *, chain: int = 0, likely: Match | None = None
    ) -> Arrival:
        """A request came. Whatever becomes of it, `finish` must be called for it once.

        Requests that ask no model (`identity.api` is `other`) are of no session: they stay with the host.

        Args:
            chain: of the prompt's last block; 0: not known.
            likely: what the session graph takes it for, where `identity.session` is None.
        """
        self._now_s = max(self._now_s, now_s)
        name, parent, confidence = self._called(identity, chain, likely)
        joined = tuple(self._place(name, parent, identity.run))
        node = self._tree.nodes[name]
        new, node.seen = not node.seen, True
        node.final = node.final or identity.final
        kind, side = _kind(identity, node)
        retry = 0.0 if kind == "side" else _retry(identity, node, chain)
        if kind != "side" and not retry:
            _count(node, kind, chain, tools=identity.tools > 0)
        node.in_flight += 1
        node.run().in_flight += 1
        return Arrival(
            session=name,
            run=node.root().name,
            parent=node.parent.name if node.parent else None,
            kind=kind,
            side=side,
            retry=retry,
            new=new,
            turn=max(node.turns - 1, 0),
            confidence=confidence,
            joined=joined,
            gone=tuple(self._evict(node)),
        )

    def finish(self, session: str, now_s: float, *, computed_tokens: int = 0) -> tuple[Gone, ...]:
        """A request of the session has ended, in whatever way; ends the session if that was to be its last."""
        self._now_s = max(self._now_s, now_s)
        node = self._tree.nodes.get(session)
        if node is None or not node.in_flight:
            return ()
        run = node.run()
        node.in_flight -= 1
        run.in_flight -= 1
        for account in (node, run):
            account.attained_tokens += max(0, computed_tokens)
        run.task_tokens += max(0, computed_tokens)
        self._tree.touch(node, self._now_s)
        return self.end(session) if node.final and not node.in_flight else ()

    def end(self, session: str) -> tuple[Gone, ...]:
        """The session is over, and so is what it started. Requests still in flight may finish later; they count no more."""
        node = self._tree.nodes.get(session)
        if node is None:
            return ()
        return tuple(self._remove(one, "ended") for one in self._tree.below(node))

    def expire(self, now_s: float) -> tuple[Gone, ...]:
        """Ends what was idle for longer than `idle_s`. A session is idle if nothing of it or below it came or runs."""
        self._now_s = max(self._now_s, now_s)
        gone = []
        while (oldest := self._tree.oldest()) and self._now_s - oldest.seen_s > self.idle_s:
            if oldest.in_flight:
                self._tree.touch(oldest, self._now_s)
            else:
                gone.append(self._remove(oldest, "idle"))
        return tuple(gone)

    def session(self, name: str) -> SessionState | None:
        node = self._tree.nodes.get(name)
        if node is None:
            return None
        return SessionState(
            session=name,
            run=node.root().name,
            parent=node.parent.name if node.parent else None,
            children=tuple(sorted(child.name for child in node.children or ())),
            seen=node.seen,
            turns=node.turns,
            in_flight=node.in_flight,
            attained_tokens=node.attained_tokens,
            seen_s=node.seen_s,
        )

    def run(self, name: str) -> RunState | None:
        """The run that a session belongs to; its root's name is its own."""
        node = self._tree.nodes.get(name)
        if node is None:
            return None
        root, totals = node.root(), node.run()
        return RunState(
            run=root.name,
            sessions=totals.sessions,
            turns=totals.turns,
            tasks=totals.tasks,
            in_flight=totals.in_flight,
            attained_tokens=totals.attained_tokens,
            task_tokens=totals.task_tokens,
            started_s=totals.started_s,
            seen_s=root.seen_s,
        )

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        if len(self) > self._max_sessions:
            raise Bug("more sessions than allowed")
        self._tree.check()

    def _called(self, identity: Identity, chain: int, likely: Match | None) -> tuple[str, str | None, float]:
        """Name, parent and confidence of the session."""
        if identity.session is not None:
            return identity.session, identity.parent, identity.confidence
        base = identity.run or identity.program
        node = self._likely(base, likely)
        if likely is None or node is None:
            return self._new_name(base), identity.parent or identity.run, 0.0
        same = chain != 0 and chain == node.chain
        if identity.retry if same else not node.in_flight:
            return node.name, identity.parent, likely.confidence
        if node.in_flight:  # its answer is not there yet, so this is another branch of the same
            return self._new_name(base), (node.parent or node).name, 0.0
        return self._new_name(base), identity.parent or identity.run, 0.0  # the same question, asked anew

    def _likely(self, base: str, likely: Match | None) -> Node | None:
        """Only a session that nobody names can be gone on with unnamed: no prompt gets a stranger into a named one."""
        if likely is None or likely.confidence < self._min_confidence:
            return None
        return self._tree.nodes.get(likely.session) if likely.session.startswith(f"{base}/~") else None

    def _new_name(self, base: str) -> str:
        self._made += 1
        return f"{base}/~{self._made}"

    def _place(self, name: str, parent: str | None, run: str | None) -> Iterator[str]:
        """Put the session where it belongs, and yield the runs that turn out to be part of its own."""
        tree, now_s = self._tree, self._now_s
        node = tree.ensure(name, now_s)
        if parent is not None and parent != name:
            above = tree.ensure(parent, now_s)
            if run is not None and run not in (parent, name):
                root = tree.ensure(run, now_s)
                if (joined := tree.link(above, root, own=False)) is not None:
                    yield joined
                tree.touch(root, now_s)
            tree.touch(above, now_s)
            if (joined := tree.link(node, above, own=True)) is not None:
                yield joined
        tree.touch(node, now_s)

    def _evict(self, keep: Node) -> Iterator[Gone]:
        """Who was seen longest ago and is not busy, if one of the first few is not; never the one that has just come."""
        passed_by = 0
        while len(self) > self._max_sessions and (oldest := self._tree.oldest()):
            if oldest is keep or (oldest.in_flight and passed_by < _MAX_PASSED_BY):
                passed_by += 1
                self._tree.touch(oldest, self._now_s)
            else:
                self.evicted += 1
                yield self._remove(oldest, "evicted")

    def _remove(self, node: Node, why: Literal["ended", "idle", "evicted"]) -> Gone:
        gone = Gone(node.name, node.root().name, why)
        self._tree.remove(node)
        return gone


def _kind(identity: Identity, node: Node) -> tuple[TurnKind, str]:
    """A client whose session has offered tools, and now offers none, asks for something on the side."""
    bare = node.tools and not identity.tools and identity.client in _TOOL_CLIENTS
    if bare and identity.kind == "human":
        return "side", "auxiliary"
    return identity.kind, identity.side


def _retry(identity: Identity, node: Node, chain: int) -> float:
    """A prompt that differs from the last one is no retry, whatever the client counts: we have not seen the first."""
    if not node.turns or (chain and node.chain and chain != node.chain):
        return 0.0
    if identity.retry:
        return SAID
    return GUESSED if chain and node.in_flight else 0.0


def _count(node: Node, kind: TurnKind, chain: int, *, tools: bool) -> None:
    run = node.run()
    node.turns += 1
    run.turns += 1
    node.chain = chain
    node.tools = node.tools or tools
    if kind == "human" and node.parent is None:
        run.tasks += 1
        run.task_tokens = 0
