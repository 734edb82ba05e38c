"""One step in the making: who runs in it, and with how many tokens."""

from dataclasses import dataclass, field

from agentic_serving.fleet.sequence import Sequence
from agentic_serving.fleet.types import Admitted

__all__ = ["Plan"]


@dataclass(slots=True)
class Plan:
    """Made by the scheduler, then applied by the replica."""

    now_s: float
    budget: int  # tokens left
    items: list[tuple[Sequence, int]] = field(default_factory=list)  # in the order of the running list
    admitted: list[Admitted] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    def add(self, sequence: Sequence, count: int) -> None:
        self.items.append((sequence, count))
        self.budget -= count

    def drop(self, sequence: Sequence) -> None:
        """A preempted request gives its tokens back to the step."""
        for at, (item, count) in enumerate(self.items):
            if item is sequence:
                del self.items[at]
                self.budget += count
                return
