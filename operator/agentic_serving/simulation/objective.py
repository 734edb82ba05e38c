"""An objective for a fleet: a percentile of completion, slowdown or first token below a limit; and who meets it.

What is unfinished at the horizon misses a limit that its age is past; below that nobody knows, and it does not count.
So a share of `percent` within the limit and that percentile below the limit are one and the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Literal

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.metrics import percentile
from agentic_serving.simulation.path import Alone
from agentic_serving.simulation.records import Result, Timed

__all__ = ["Measure", "Objective", "Verdict"]

#: completion, slowdown: of tasks; run: completion of whole runs without their humans' gaps; first-token: of turns.
Measure = Literal["completion", "slowdown", "run", "first-token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a fleet does by an objective.

    Attributes:
        value: the percentile, or the mean; NaN where nothing counts.
        within: share of what counts that is within the limit.
        n: what counts: tasks, runs or turns of all seeds.
    """

    met: bool
    value: float
    within: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """`percent` of the measure's values are to be `limit` at most; without `percent` their mean is.

    Raises:
        InvalidInput: the limit is not positive, or the percentile not between 0 and 100.
    """

    measure: Measure
    percent: float | None
    limit: float

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise InvalidInput(self.measure, "the limit must be positive")
        if self.percent is not None and not 0 < self.percent <= 100:
            raise InvalidInput(self.measure, "the percentile must be above 0 and at most 100")

    @property
    def figure(self) -> str:
        """`p95 of task completion`."""
        named = {
            "completion": "task completion",
            "slowdown": "task slowdown",
            "run": "run completion",
            "first-token": "time to first token",
        }[self.measure]
        return f"{'mean' if self.percent is None else f'p{self.percent:g}'} of {named}"

    @property
    def unit(self) -> str:
        return "" if self.measure == "slowdown" else " s"

    def values(self, result: Result) -> list[float]:
        """What counts of one simulation."""
        if self.measure == "first-token":
            return [turn.first_token_s - turn.arrived_s for turn in result.turns]
        items = result.runs if self.measure == "run" else result.tasks
        return [value for item, value in self._of(items) if item.finished or value > self.limit]

    def verdict(self, values: Sequence[float]) -> Verdict:
        """On the values of all seeds together; nothing at all does not meet it."""
        if not values:
            return Verdict(met=False, value=nan, within=nan, n=0)
        found = fmean(values) if self.percent is None else percentile(sorted(values), self.percent)
        within = sum(value <= self.limit for value in values) / len(values)
        return Verdict(met=found <= self.limit, value=found, within=within, n=len(values))

    def floor(self, scripts: Iterable[Alone]) -> float:
        """The figure where nobody waits for anybody and no block is computed twice; no fleet is below it, if every
        program runs once. Zero for the first token, whose floor is not computed."""
        found = list(scripts)
        if self.measure == "first-token" or not found:
            return 0.0
        if self.measure == "slowdown":
            return 1.0
        values = (
            [one.run_s for one in found]
            if self.measure == "run"
            else [s for one in found for s in one.tasks_s]
        )
        return self.verdict(values).value

    def thin(self, n: int) -> bool:
        """Whether fewer than five of `n` values lie beyond the percentile, so that it hangs on very few."""
        return self.percent is not None and n * (100 - self.percent) < 500

    def _of(self, items: Iterable[Timed]) -> Iterable[tuple[Timed, float]]:
        return ((item, item.slowdown if self.measure == "slowdown" else item.took_s) for item in items)
