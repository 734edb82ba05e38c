"""What one replica's KV cache probably holds: vLLM's eviction, in tokens and by session instead of by block.

Idle content goes in the order of its last use, each prompt from its end; what is in use never goes. Memory that is in use
counts from a turn's beginning, its whole prompt at once. A second tier takes what is evicted, in the order in which it
comes, and gives it back to the turn that asks for it; what never left the device is not in it.
Not modelled: blocks (a cache loses less than one per session and turn to rounding), a prompt's gradual growth, copies of
a prefix that two turns compute at the same time.
"""

from collections.abc import Callable

from agentic_serving.errors import Bug
from agentic_serving.program.demoted import Demoted
from agentic_serving.program.pieces import Piece, Queue, Turn, path_tokens

__all__ = ["Holdings"]

#: Prefixes of prefixes: a fork of a fork of a fork. What lies deeper is counted as if it were not shared.
_MAX_DEPTH = 16


class Holdings:
    """One cache. `busy` and `idle` are tokens; `lost` is told which sessions have nothing here any more."""

    __slots__ = (
        "busy",
        "host",
        "idle",
        "limit",
        "lost",
        "max_sessions",
        "name",
        "named",
        "queue",
        "used",
    )

    def __init__(self, name: str, limit: int, max_sessions: int, lost: Callable[[str], None]) -> None:
        self.name = name
        self.limit = limit
        self.max_sessions = max_sessions
        self.lost = lost
        self.busy = 0
        self.idle = 0
        self.used = 0  # tokens of all turns that began, for distances
        self.named: dict[str, Piece] = {}
        self.queue = Queue()
        self.host = Demoted(2 * max_sessions)

    def warm(self, session: str) -> int:
        return path_tokens(self.named.get(session))

    def warm_host(self, session: str) -> int:
        """Tokens that follow the warm ones."""
        total, piece = 0, self.named.get(session)
        while piece is not None:
            total += self.host.tokens(piece)
            piece = piece.parent
        return total

    def in_use(self, session: str) -> bool:
        piece = self.named.get(session)
        return piece is not None and piece.turns > 0

    def begin(self, session: str, tokens: int, shared: tuple[str, int] | None) -> None:
        """A prompt of so many tokens is in use, and what it finds here with it."""
        piece = self._piece(session, tokens, shared)
        warm = path_tokens(piece)
        if piece.turn is None:
            piece.turn = Turn(warm, self.used - piece.seen + warm)
        piece.turn.prompt = tokens
        self._occupy(piece)
        more = tokens - path_tokens(piece)
        self._resize(piece, max(more, -piece.tokens if piece.turns == 1 else 0))
        self.used += tokens
        self.make_room()

    def end(self, session: str, tokens: int) -> Turn | None:
        """A turn's prompt and answer are idle; what was known of it, or None if it is not known."""
        piece = self.named.get(session)
        if piece is None or piece.turn is None:
            return None
        turn = piece.turn
        more = tokens - path_tokens(piece)
        if more > 0 or piece.turns == 1:
            self._resize(piece, max(more, -piece.tokens))
        turn.kept = max(turn.kept, tokens)
        self._release(piece)
        return turn

    def cancel(self, session: str) -> None:
        """A turn's own tokens were never computed, but for those that others use too. What was evicted stays so."""
        piece = self.named.get(session)
        if piece is None or piece.turn is None:
            return
        if piece.turns == 1:
            self._join(piece)
            surplus = path_tokens(piece) - piece.turn.kept
            self._resize(piece, -min(max(surplus, 0), piece.tokens))
        self._release(piece)

    def drop(self, session: str) -> None:
        """Nobody will ask for it; it stays in memory until its turn to be evicted."""
        piece = self.named.get(session)
        if piece is None:
            return
        while piece.turns:
            self._release(piece)
        if self.named.pop(session, None):
            self._orphan(piece)

    def others(self, tokens: int) -> None:
        """Somebody else used so many tokens: the most recent ones, and warm for nobody here."""
        self.used += tokens
        piece = Piece(None, min(tokens, self.limit))
        if not piece.tokens:
            return
        self.idle += piece.tokens
        self.queue.append(piece)
        self.queue.merge(piece)
        self.make_room()

    def clear(self) -> None:
        """Nothing is here any more but what is in use."""
        self._evict(self.idle)

    def make_room(self) -> None:
        """Evict what is over the limit."""
        self._evict(self.busy + self.idle - self.limit)

    def _evict(self, over: int) -> None:
        while (over > 0 or len(self.named) > self.max_sessions) and (oldest := self.queue.oldest):
            gone = oldest.tokens if over <= 0 else min(over, oldest.tokens)
            oldest.tokens -= gone
            self.idle -= gone
            over -= gone
            if not oldest.tokens:
                self.queue.remove(oldest)
            self._demote(oldest, gone)
            if not oldest.tokens:
                self._emptied(oldest)

    def trim_host(self) -> None:
        """The host forgets what is over its limit."""
        for piece in self.host.trim():
            if not piece.tokens and not piece.turns and not piece.nameless:
                self._emptied(piece)

    def _piece(self, session: str, tokens: int, shared: tuple[str, int] | None) -> Piece:
        """The session's piece whose path is the known part of the prompt."""
        piece = self.named.get(session)
        if piece is not None and piece.turns:
            return piece
        if shared is not None:
            piece = self._shared(session, shared, piece)
        if piece is None:
            return self._name(session, None)
        if path_tokens(piece) > tokens:
            return self._shortened(session, piece, tokens)
        return piece

    def _shared(self, session: str, shared: tuple[str, int], own: Piece | None) -> Piece | None:
        """Its piece behind a prefix of another session's, where that is more than its own."""
        other = self.named.get(shared[0])
        if shared[0] == session:
            return own if own is None else self._shortened(session, own, shared[1])
        if other is None or min(shared[1], path_tokens(other)) <= path_tokens(own):
            return own
        prefix = self._prefix(other, shared[1])
        made = self._name(session, prefix)
        if own is not None:
            self._orphan(own)
        return made

    def _shortened(self, session: str, piece: Piece, tokens: int) -> Piece:
        """Only so many tokens of its path go on; the rest keeps its place in the queue, without a name."""
        over = path_tokens(piece) - max(tokens, 0)
        if over <= 0:
            return piece
        if over > piece.tokens:
            made = self._name(session, self._prefix(piece, tokens) if tokens > 0 else None)
            self._orphan(piece)
            return made
        self.host.take(piece)
        piece.tokens -= over
        rest = Piece(None, over)
        self.queue.insert(rest, piece)
        if not piece.tokens:
            self.queue.remove(piece)
        self.queue.merge(rest)
        return piece

    def _prefix(self, piece: Piece, tokens: int) -> Piece | None:
        """The shared piece that ends after so many tokens of a path; it is made if need be."""
        end = path_tokens(piece)
        depth, above = 1, piece.parent
        while above is not None:
            depth, above = depth + 1, above.parent
        while piece.parent is not None and (end - piece.tokens >= tokens or depth >= _MAX_DEPTH):
            end -= piece.tokens
            piece, depth = piece.parent, depth - 1
        upper = min(tokens, end) - (end - piece.tokens)
        if upper == piece.tokens and piece.owner is None:
            return piece
        return self._split(piece, upper) if upper > 0 else piece.parent

    def _split(self, piece: Piece, tokens: int) -> Piece:
        """Make the first tokens of a piece one of their own, its parent."""
        upper = Piece(None, tokens)
        upper.turns, upper.seen = piece.turns, piece.seen
        before = piece.leave()
        if before is not None:
            before.adopt(upper)
        upper.adopt(piece)
        piece.tokens -= tokens
        if not piece.turns:
            self.queue.follow(upper, piece)
            if not piece.tokens:
                self.queue.remove(piece)
        return upper

    def _name(self, session: str, prefix: Piece | None) -> Piece:
        piece = self.named[session] = Piece(session)
        if prefix is not None:
            prefix.adopt(piece)
            piece.seen = prefix.seen
        return piece

    def _occupy(self, piece: Piece) -> None:
        """One turn more on a path."""
        above: Piece | None = piece
        while above is not None:
            if not above.turns and above.tokens:
                self.queue.remove(above)
                self.idle -= above.tokens
                self.busy += above.tokens
            above.turns += 1
            self._resize(above, self.host.take(above))
            above = above.parent
        self._join(piece)

    def _join(self, piece: Piece) -> None:
        """An only child in use and its parent are one piece."""
        while (above := piece.parent) is not None and len(above.children or ()) == 1:
            piece.leave()
            piece.tokens += above.tokens
            if (before := above.leave()) is not None:
                before.adopt(piece)

    def _release(self, piece: Piece) -> None:
        """One turn less on a path; what no turn uses is the most recently used, its end first."""
        above: Piece | None = piece
        while above is not None:
            above.turns -= 1
            if not above.turns:
                above.turn, above.seen = None, self.used
                self.busy -= above.tokens
                self.idle += above.tokens
                if above.tokens:
                    self.queue.append(above)
            above = above.parent
        if not piece.turns and not piece.tokens:
            self._emptied(piece)
        self.make_room()

    def _demote(self, piece: Piece, tokens: int) -> None:
        """The host takes what the device evicts."""
        if self.host.limit:
            self.host.put(piece, tokens)
            self.trim_host()

    def _resize(self, piece: Piece, more: int) -> None:
        """Of a piece in use."""
        piece.tokens += more
        self.busy += more

    def _emptied(self, piece: Piece) -> None:
        """Nothing of a piece is there; with it goes what could only follow it."""
        if self.host.tokens(piece) or (piece.owner is not None and piece.parent is not None):
            return  # the session still has what it shares, or what the host keeps
        above = piece.parent
        for child in list(piece.children or ()):
            child.leave()
            self.host.take(child)
            if above is not None:
                above.adopt(child)  # of what it shares, the beginning is still there
            self._emptied(child)
        if piece.owner is not None:
            del self.named[piece.owner]
            self.lost(piece.owner)
        self._left(piece)

    def _orphan(self, piece: Piece) -> None:
        """Its session does not own it any more."""
        piece.owner = None
        self._left(piece)
        if piece.tokens:
            self.queue.merge(piece)

    def _left(self, piece: Piece) -> None:
        """A piece leaves its parent, which may be of no use to anybody then."""
        parent = piece.leave()
        if parent is not None and not parent.children:
            self._orphan(parent)

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        idle = self.queue.pieces()
        places = {piece: place for place, piece in enumerate(idle)}
        if sum(piece.tokens for piece in idle) != self.idle or any(p.turns or p.tokens < 1 for p in idle):
            raise Bug(f"{self.name}: idle tokens do not add up")
        if self.idle and self.busy + self.idle > self.limit:
            raise Bug(f"{self.name}: more is idle than fits")
        self.host.check(self.name)
        known = set(idle)
        for session, piece in self.named.items():
            if piece.owner != session or piece.children:
                raise Bug(f"{self.name}: the piece of {session} is not its own")
            above: Piece | None = piece
            while above is not None:
                known.add(above)
                if above.parent and places.get(above, -1) > places.get(above.parent, len(idle)):
                    raise Bug(f"{self.name}: a prefix of {session} would be evicted before its end")
                above = above.parent
        if sum(piece.tokens for piece in known if piece.turns) != self.busy:
            raise Bug(f"{self.name}: tokens in use do not add up")
        for piece in known:
            if piece.children and piece.turns != sum(child.turns for child in piece.children):
                raise Bug(f"{self.name}: turns on a shared prefix do not add up")
