"""The waiting queue: first come first served, or by priority; what was preempted comes back to its front."""

from bisect import insort
from collections import deque
from typing import Literal, Protocol

from agentic_serving.fleet.sequence import Sequence

__all__ = ["WaitingQueue", "make_queue"]


class WaitingQueue(Protocol):
    def __len__(self) -> int: ...

    def head(self) -> Sequence | None: ...

    def pop(self) -> Sequence: ...

    def push(self, sequence: Sequence) -> None: ...

    def push_front(self, sequence: Sequence) -> None:
        """What was preempted: before all others, or before those that are not more urgent."""

    def remove(self, sequence: Sequence) -> None: ...


class _Fcfs:
    def __init__(self) -> None:
        self._items: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def head(self) -> Sequence | None:
        return self._items[0] if self._items else None

    def pop(self) -> Sequence:
        return self._items.popleft()

    def push(self, sequence: Sequence) -> None:
        self._items.append(sequence)

    def push_front(self, sequence: Sequence) -> None:
        self._items.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        self._items.remove(sequence)


class _Priority:
    """By (priority, arrival), as vLLM's heap; a preempted request keeps its arrival."""

    def __init__(self) -> None:
        self._items: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._items)

    def head(self) -> Sequence | None:
        return self._items[0] if self._items else None

    def pop(self) -> Sequence:
        return self._items.pop(0)

    def push(self, sequence: Sequence) -> None:
        insort(self._items, sequence, key=lambda item: item.urgency)

    push_front = push

    def remove(self, sequence: Sequence) -> None:
        self._items.remove(sequence)


def make_queue(policy: Literal["fcfs", "priority"]) -> WaitingQueue:
    return _Priority() if policy == "priority" else _Fcfs()
