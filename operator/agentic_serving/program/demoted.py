"""What a cache evicted and its host's memory still has: the tokens that follow a piece's own."""

from collections import OrderedDict

from agentic_serving.errors import Bug
from agentic_serving.program.pieces import Piece

__all__ = ["Demoted"]


class Demoted:
    """Least recently demoted first, each from its end. `limit` is in tokens; 0: there is no such tier."""

    __slots__ = ("_max_pieces", "_parts", "_used", "limit")

    def __init__(self, max_pieces: int) -> None:
        self.limit = 0
        self._max_pieces = max_pieces
        self._used = 0
        self._parts: OrderedDict[Piece, int] = OrderedDict()

    def tokens(self, piece: Piece) -> int:
        return self._parts.get(piece, 0)

    def put(self, piece: Piece, tokens: int) -> None:
        """The piece's last tokens came; `trim` when done."""
        self._parts[piece] = self._parts.pop(piece, 0) + tokens
        self._used += tokens

    def take(self, piece: Piece) -> int:
        """They are the device's again, or of no use; how many there were."""
        taken = self._parts.pop(piece, 0)
        self._used -= taken
        return taken

    def trim(self) -> list[Piece]:
        """Forget what is over the limit; the pieces that have nothing left here."""
        gone: list[Piece] = []
        while (over := self._used - self.limit) > 0 or len(self._parts) > self._max_pieces:
            piece, tokens = next(iter(self._parts.items()))
            if 0 < over < tokens:
                self._parts[piece] = tokens - over
                self._used -= over
            else:
                self.take(piece)
                gone.append(piece)
        return gone

    def check(self, name: str) -> None:
        """Raises Bug where an invariant does not hold."""
        if sum(self._parts.values()) != self._used or self._used > self.limit:
            raise Bug(f"{name}: the host holds more than it can, or it does not add up")
