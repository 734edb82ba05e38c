"""Prompts as runs of block ids: a long conversation is a handful of `(first_id, count)` pairs.

Equal id means an equal block and, as traces give ids out, an equal prefix before it.
"""

from collections.abc import Iterable, Iterator

__all__ = ["Runs", "common_blocks", "cut", "from_ids", "ids", "n_blocks"]

#: Full blocks from the first token on: `(first_id, count)` each, ids >= 0, counts >= 1.
Runs = tuple[tuple[int, int], ...]


def n_blocks(runs: Runs) -> int:
    """How many blocks the runs cover."""
    return sum(count for _, count in runs)


def ids(runs: Runs) -> Iterator[int]:
    """Every id in order."""
    for first, count in runs:
        yield from range(first, first + count)


def from_ids(values: Iterable[int]) -> Runs:
    """The shortest runs that yield these ids."""
    found: list[tuple[int, int]] = []
    first, count = 0, 0
    for value in values:
        if count and first + count == value:
            count += 1
            continue
        if count:
            found.append((first, count))
        first, count = value, 1
    if count:
        found.append((first, count))
    return tuple(found)


def cut(runs: Runs, stop: int) -> Runs:
    """The first `stop` blocks, or all if there are fewer."""
    found: list[tuple[int, int]] = []
    for first, count in runs:
        if stop <= 0:
            break
        found.append((first, min(count, stop)))
        stop -= count
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
