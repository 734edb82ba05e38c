"""Prompts as runs of block ids: exact, and as long as a prompt's history of changes instead of as its length.

A block id stands for a chained block hash: equal id, equal block *and* equal prefix. Ids that follow each other in
a prompt usually also count up, because they were given out in the order of first appearance; a run
`(first_id, count)` is a stretch of them. 100,000 tokens of one conversation are a handful of runs.
"""

from collections.abc import Hashable, Iterable, Iterator
from itertools import pairwise

from agentic_serving.errors import InvalidInput

__all__ = ["Interner", "Runs", "blocks", "check_runs", "common_blocks", "cut", "from_ids", "ids"]

#: Block ids from the first token on: `(first_id, count)` each, ids >= 0, counts >= 1.
Runs = tuple[tuple[int, int], ...]


def blocks(runs: Runs) -> int:
    """How many blocks the runs cover."""
    return sum([count for _, count in runs])


def ids(runs: Runs) -> Iterator[int]:
    """Every id in order. For small things and tests: the point of runs is not to do this."""
    for first, count in runs:
        yield from range(first, first + count)


def from_ids(values: Iterable[int]) -> Runs:
    """The shortest runs that yield these ids."""
    found: list[list[int]] = []
    for value in values:
        if found and sum(found[-1]) == value:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return tuple((first, count) for first, count in found)


def cut(runs: Runs, start: int, stop: int) -> Runs:
    """Blocks `start` to `stop` (exclusive) of the chain; positions beyond the end hold nothing."""
    found: list[tuple[int, int]] = []
    position = 0
    for first, count in runs:
        if position >= stop:
            break
        end = position + count
        if position >= start and end <= stop:
            found.append((first, count))
        elif end > start:
            low, high = max(start - position, 0), min(stop - position, count)
            if low < high:
                found.append((first + low, high - low))
        position = end
    return tuple(found)


def common_blocks(a: Runs, b: Runs) -> int:
    """How many blocks both begin with."""
    shared = i = j = used_a = used_b = 0
    while i < len(a) and j < len(b):
        if a[i][0] + used_a != b[j][0] + used_b:
            break
        step = min(a[i][1] - used_a, b[j][1] - used_b)
        shared, used_a, used_b = shared + step, used_a + step, used_b + step
        if used_a == a[i][1]:
            i, used_a = i + 1, 0
        if used_b == b[j][1]:
            j, used_b = j + 1, 0
    return shared


def check_runs(runs: Runs, field: str) -> None:
    """Refuse runs that cannot be a prefix chain.

    Raises:
        InvalidInput: an id is negative, a run is empty, or an id comes twice.
    """
    for first, count in runs:
        if first < 0 or count < 1:
            raise InvalidInput(field, f"the run ({first}, {count}) must have an id >= 0 and a count >= 1")
    if len(runs) < 2:
        return
    ordered = sorted(runs)
    for (first, count), (after, _) in pairwise(ordered):
        if first + count > after:
            raise InvalidInput(field, f"block id {after} comes twice; equal ids mean equal prefixes")


class Interner:
    """Gives block hashes their ids, so that new hashes of one chain become one run.

    It never forgets: about 200 bytes per distinct block, because a tier may still hold what the engine evicted.
    """

    def __init__(self) -> None:
        self._ids: dict[Hashable, int] = {}
        self._names: list[Hashable] = []

    def __len__(self) -> int:
        return len(self._names)

    def runs(self, hashes: Iterable[Hashable]) -> Runs:
        """The runs of a chain of block hashes; unknown ones get the next ids."""
        return from_ids(self._id(name) for name in hashes)

    def name(self, block_id: int) -> Hashable:
        """The hash that was given this id."""
        return self._names[block_id]

    def _id(self, name: Hashable) -> int:
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = len(self._names)
            self._names.append(name)
        return found
