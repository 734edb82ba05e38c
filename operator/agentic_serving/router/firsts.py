"""First tokens that nobody sees: of answers in one piece, when the prompt is probably computed.

Supposed only where first tokens of other calls were seen: without a time that was measured there is nothing to go by, and
the prompt counts as being computed until its answer is there.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

__all__ = ["Firsts"]


class Firsts:
    """Bounded by the calls on their way. `seen`: first tokens are told here."""

    def __init__(self) -> None:
        self.seen = False
        self._supposed: list[tuple[float, str]] = []

    @property
    def wake_s(self) -> float | None:
        return self._supposed[0][0] if self._supposed else None

    def suppose(self, call_id: str, at_s: float) -> None:
        heappush(self._supposed, (at_s, call_id))

    def due(self, now_s: float) -> Iterator[str]:
        while self._supposed and self._supposed[0][0] <= now_s:
            yield heappop(self._supposed)[1]
