"""What a listener remembers of each call from its first note to its last: bounded, so that a lost ending leaks nothing."""

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["InFlight"]

T = TypeVar("T")

#: Ten times the calls that the desk holds at most (10,000), and 8 MiB at some 80 bytes each.
_MAX_CALLS = 100_000


class InFlight(Generic[T]):
    """Values by call; past the bound the oldest is forgotten.

    Attributes:
        forgotten: how many were.
    """

    def __init__(self, max_calls: int = _MAX_CALLS) -> None:
        self._calls: dict[str, T] = {}
        self._max = max_calls
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[T]:
        return iter(self._calls.values())

    def begin(self, call_id: str, value: T) -> None:
        self._calls.pop(call_id, None)
        if len(self._calls) >= self._max:
            del self._calls[next(iter(self._calls))]
            self.forgotten += 1
        self._calls[call_id] = value

    def get(self, call_id: str) -> T | None:
        return self._calls.get(call_id)

    def end(self, call_id: str) -> T | None:
        return self._calls.pop(call_id, None)
