"""Lists of a request whose members are read when somebody looks at them: a session's next body repeats all but its last few."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard, overload

__all__ = ["Entries", "is_list"]

_UNREAD = object()


class Entries(Sequence[Any]):
    """Messages, items or tools as they were written.

    Args:
        written: the JSON of each.
        read: its value; raises nothing.
    """

    __slots__ = ("_known", "_read", "_written")

    def __init__(self, written: Sequence[bytes | memoryview], read: Callable[[bytes], object]) -> None:
        self._written = written
        self._read = read
        self._known: list[object] = [_UNREAD] * len(written)

    def __len__(self) -> int:
        return len(self._written)

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        found = self._known[index]
        if found is _UNREAD:
            found = self._known[index] = self._read(bytes(self._written[index]))
        return found

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def fingerprints(self) -> list[int]:
        """Python's own hash of each one's JSON, without reading it."""
        return [hash(bytes(one)) for one in self._written]


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a JSON array, read or not."""
    return type(value) in (
        list,
        Entries,
    )  # what JSON's readers make; asking an abstract class takes ten times as long
