"""The smallest fleet that meets an objective: choices, a simulation of each, a decision.

More replicas are taken to do no worse. A simulated fleet need not obey that to the last task, so every fleet that was
looked at is in the curve, and the one just below the answer is always among them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.objective import Objective, Verdict

__all__ = ["Choice", "Plan", "Sample", "Shape", "Trial", "Try", "plan", "smallest", "trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A kind of fleet, of which there may be more or less: one replica, or a ratio of prefill to decode.

    Attributes:
        replicas: those that decode; they prefill too where `prefill` is 0.
        host_bytes: memory for KV cache on each replica's host.
    """

    replicas: int = 1
    prefill: int = 0
    host_bytes: int = 0

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.prefill < 0 or self.host_bytes < 0:
            raise InvalidInput("shape", "needs a replica, and neither prefill nor host memory below 0")

    @property
    def unit(self) -> int:
        """Replicas that are added at a time."""
        return self.replicas + self.prefill


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A fleet: a shape so many times."""

    shape: Shape
    times: int

    @property
    def replicas(self) -> int:
        """Those that decode."""
        return self.shape.replicas * self.times

    @property
    def prefill(self) -> int:
        return self.shape.prefill * self.times

    @property
    def total(self) -> int:
        return self.shape.unit * self.times


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One simulation of a choice: what counts for the objective, and figures for the reader."""

    seed: int
    values: tuple[float, ...]
    recompute_share: float
    held_s: float
    unfinished_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All simulations of a choice, judged together."""

    choice: Choice
    samples: tuple[Sample, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Attributes:
    trials: every fleet that was looked at, by shape in the order given, then by size.
    found: the smallest that meets the objective, for each shape that has one.
    """

    objective: Objective
    trials: tuple[Trial, ...]
    found: tuple[Trial, ...]

    @property
    def recommended(self) -> Trial | None:
        """Fewest replicas, then least host memory, then prefill and decode together rather than apart."""
        return min(self.found, key=_cost, default=None)

    def next_smaller(self, chosen: Trial) -> Trial | None:
        """The same shape once less; None where the chosen one is the smallest there is."""
        wanted = Choice(shape=chosen.choice.shape, times=chosen.choice.times - 1)
        return next((trial for trial in self.trials if trial.choice == wanted), None)


#: Simulates a choice; may raise KeyboardInterrupt.
Try = Callable[[Choice], Trial]


def plan(
    objective: Objective,
    shapes: Sequence[Shape],
    attempt: Try,
    *,
    most: int,
    on_trial: Callable[[Trial], None] | None = None,
) -> Plan:
    """Look for the smallest fleet of every shape.

    Args:
        most: replicas of the largest fleet, of both kinds together.
        on_trial: is told of every trial as it is there.

    Raises:
        InvalidInput: a shape alone has more replicas than `most`, or there is none.
    """
    if not shapes:
        raise InvalidInput("shapes", "needs one at least")
    trials: dict[Choice, Trial] = {}
    found: list[Trial] = []

    def look(choice: Choice) -> Trial:
        if choice not in trials:
            trials[choice] = attempt(choice)
            if on_trial is not None:
                on_trial(trials[choice])
        return trials[choice]

    for shape in dict.fromkeys(shapes):
        if shape.unit > most:
            raise InvalidInput("shapes", f"{shape.prefill}:{shape.replicas} is more than {most} replicas")
        best = _smallest_of(shape, look, most // shape.unit, start=_start(found, shape))
        if best is not None:
            found.append(best)
    ordered = sorted(trials.values(), key=lambda one: (shapes.index(one.choice.shape), one.choice.times))
    return Plan(objective=objective, trials=tuple(ordered), found=tuple(found))


def smallest(meets: Callable[[int], bool], most: int, *, start: int = 1) -> int | None:
    """The smallest of 1 to `most` that meets, where all above one that meets do too; None if none does.

    Doubles from `start` until one meets, or halves until one does not, and then bisects. What it returns meets, and the
    number below, if there is one, was asked and does not.
    """
    low, high = 0, most + 1  # low does not meet, high does, or is beyond the end
    at = min(max(start, 1), most)
    while high - low > 1:
        if meets(at):
            high = at
        else:
            low = at
        if high > most:
            at = min(max(2 * low, 1), most)
        elif low == 0:
            at = max(high // 2, 1)
        else:
            at = (low + high) // 2
    return high if high <= most else None


def trial(choice: Choice, samples: Iterable[Sample], objective: Objective) -> Trial:
    """The samples judged together, in the order of seeds."""
    found = tuple(sorted(samples, key=lambda sample: sample.seed))
    values = [value for sample in found for value in sample.values]
    return Trial(choice=choice, samples=found, verdict=objective.verdict(values))


def _smallest_of(shape: Shape, look: Try, most: int, *, start: int) -> Trial | None:
    times = smallest(lambda times: look(Choice(shape=shape, times=times)).verdict.met, most, start=start)
    return None if times is None else look(Choice(shape=shape, times=times))


def _start(found: Sequence[Trial], shape: Shape) -> int:
    """Where the shape before ended: host memory or a ratio seldom change the size by much."""
    return max(1, found[-1].choice.total // shape.unit) if found else 1


def _cost(trial: Trial) -> tuple[int, int, int]:
    choice = trial.choice
    return choice.total, choice.total * choice.shape.host_bytes, choice.prefill
