"""A step in progress: one forward pass, or several uniform ones that can still be cut short."""

from bisect import bisect_left
from dataclasses import dataclass, replace

from agentic_serving.fleet.scheduler import Plan
from agentic_serving.fleet.types import Step

__all__ = ["Passes"]


@dataclass(slots=True)
class Passes:
    """A step and what it is made of. Pass `i` (from 0) of it takes `first_s + i * slope_s`."""

    step: Step
    plan: Plan
    first_s: float
    slope_s: float

    def length_s(self, n_steps: int) -> float:
        return n_steps * self.first_s + self.slope_s * (n_steps * (n_steps - 1) // 2)

    def steps_until(self, at_s: float, most: int) -> int:
        """The fewest passes, 1 to `most`, that end at or after a moment."""
        after_s = at_s - self.step.start_s
        if self.length_s(most) <= after_s:
            return most
        return min(most, 1 + bisect_left(range(1, most + 1), after_s, key=self.length_s))

    def cut(self, n_steps: int) -> None:
        """Set how many passes it has."""
        end_s = self.step.start_s + self.length_s(n_steps)
        self.step = replace(self.step, n_steps=n_steps, end_s=end_s)
