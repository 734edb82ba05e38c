"""Pieces of prompts that one cache holds, the least recently used first.

A *piece* is a stretch of tokens of one prefix; its parent is the stretch before it. A session owns at most one piece of a
cache, always without children; a stretch that several sessions share has no owner and their pieces as children. A piece
that nobody owns any more stays until it is evicted, as its blocks do.
Every child lies before its parent in the queue, so a prefix is never gone before what follows it: the tokens of a path add
up to what is there.
"""

from agentic_serving.errors import Bug

__all__ = ["Piece", "Queue", "Turn", "path_tokens"]


class Turn:
    """What is in flight on a piece."""

    __slots__ = ("distance", "kept", "prompt")

    def __init__(self, kept: int, distance: int) -> None:
        #: Tokens of the path that are surely there: those from before, and those of turns that ended meanwhile.
        self.kept = kept
        #: The latest prompt's tokens.
        self.prompt = 0
        #: Tokens used in this cache since the path was, with its own: an upper bound of its distance in the queue.
        self.distance = distance


class Piece:
    """A stretch of tokens. In the queue exactly if it has tokens and no turn."""

    __slots__ = ("children", "newer", "older", "owner", "parent", "seen", "tokens", "turn", "turns")

    def __init__(self, owner: str | None = None, tokens: int = 0) -> None:
        self.owner = owner
        self.tokens = tokens
        #: Turns in flight here and below.
        self.turns = 0
        self.turn: Turn | None = None
        self.seen = 0  # the cache's count of used tokens when this was used last
        self.parent: Piece | None = None
        self.children: dict[Piece, None] | None = None  # in order, so that runs repeat
        # Its neighbours in the queue. None outside: an object that names itself is freed by nobody but the collector of
        # cycles, which a process with many sessions cannot afford to wait for.
        self.older: Piece | None = None
        self.newer: Piece | None = None

    @property
    def nameless(self) -> bool:
        """Whether nothing leads here any more."""
        return self.owner is None and not self.children

    def adopt(self, child: "Piece") -> None:
        child.parent = self
        if self.children is None:
            self.children = {}
        self.children[child] = None

    def leave(self) -> "Piece | None":
        """Have no parent any more; the one it had."""
        parent = self.parent
        if parent is not None and parent.children is not None:
            del parent.children[self]
        self.parent = None
        return parent


class Queue:
    """A ring of pieces: `oldest` is evicted next."""

    __slots__ = ("_head",)

    def __init__(self) -> None:
        self._head = Piece()
        self._head.older = self._head.newer = self._head

    @property
    def oldest(self) -> Piece | None:
        first = self._head.newer
        return None if first is self._head else first

    def append(self, piece: Piece) -> None:
        """The most recently used one."""
        self.insert(piece, self._head)

    def prepend(self, piece: Piece) -> None:
        """The least recently used one."""
        self.follow(piece, self._head)

    def insert(self, piece: Piece, before: Piece) -> None:
        older = before.older
        if older is None:
            raise Bug("the piece is not in the queue")
        piece.older, piece.newer = older, before
        older.newer = piece
        before.older = piece

    def follow(self, piece: Piece, after: Piece) -> None:
        """Insert it behind another one."""
        newer = after.newer
        if newer is None:
            raise Bug("the piece is not in the queue")
        self.insert(piece, newer)

    def remove(self, piece: Piece) -> None:
        older, newer = piece.older, piece.newer
        if older is not None and newer is not None:
            older.newer, newer.older = newer, older
        piece.older = piece.newer = None

    def clear(self) -> None:
        """Nobody is in it any more."""
        while (first := self.oldest) is not None:
            self.remove(first)

    def merge(self, piece: Piece) -> None:
        """A nameless piece takes in its nameless neighbours: nobody will ask which was which."""
        for other in (piece.older, piece.newer):
            if other is not None and other is not self._head and other.nameless:
                self.remove(other)
                piece.tokens += other.tokens

    def pieces(self) -> list[Piece]:
        """All, oldest first; for checks."""
        found: list[Piece] = []
        piece = self._head.newer
        while piece is not None and piece is not self._head:
            found.append(piece)
            piece = piece.newer
        return found


def path_tokens(piece: Piece | None) -> int:
    """Tokens from the first one on, to this piece's end."""
    total = 0
    while piece is not None:
        total += piece.tokens
        piece = piece.parent
    return total
