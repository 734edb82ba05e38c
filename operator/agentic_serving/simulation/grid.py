"""Policies against loads: the same seeds for every policy, differences with their uncertainty."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import exp, log, nan, sqrt
from operator import attrgetter
from statistics import fmean, stdev
from typing import Protocol, runtime_checkable

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.engine import MakeSeated, simulate
from agentic_serving.simulation.metrics import Summary, summary
from agentic_serving.simulation.setup import Fleet, Setup
from agentic_serving.simulation.views import Policy
from agentic_serving.simulation.workloads import Workload

__all__ = ["Cell", "Grid", "Interval", "MakeLinked", "MakePolicy", "paired_ratio", "run_grid", "seated"]

#: Makes a fresh policy for a fleet and a seed.
MakePolicy = Callable[[Fleet, int], Policy]


@runtime_checkable
class MakeLinked(Protocol):
    """A maker whose policies for several routers and stacks know of each other."""

    def linked(self, setup: Setup, seed: int) -> MakeSeated:
        """What makes the policies of one simulation."""
        ...


#: Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulation of the grid."""

    policy: str
    load: str
    seed: int
    summary: Summary


#: (load, policy, seed)
Place = tuple[str, str, int]
#: `map`, or one that runs in several processes and keeps the order.
Each = Callable[[Callable[[Place], Cell], Iterable[Place]], Iterable[Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean of `n` paired seeds and its 95 % interval; the ends are NaN for one seed."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells, by load, policy and seed."""

    cells: tuple[Cell, ...]

    def values(self, metric: str, *, policy: str, load: str) -> dict[int, float]:
        """A metric (`task_s.mean`; see `METRICS`) by seed."""
        get = attrgetter(metric)
        return {
            cell.seed: float(get(cell.summary))
            for cell in self.cells
            if cell.policy == policy and cell.load == load
        }

    def gain(self, metric: str, *, policy: str, against: str, load: str) -> Interval:
        """How many times smaller the metric is under `policy` than under `against`."""
        ours = self.values(metric, policy=policy, load=load)
        theirs = self.values(metric, policy=against, load=load)
        return paired_ratio([(theirs[seed], ours[seed]) for seed in sorted(ours.keys() & theirs.keys())])


def run_grid(
    workload: Workload,
    loads: Mapping[str, Setup],
    policies: Mapping[str, MakePolicy],
    seeds: Sequence[int],
    *,
    each: Each = map,
    on_cell: Callable[[Cell], None] | None = None,
) -> Grid:
    """Simulate every policy under every load with every seed.

    Args:
        each: how the cells are run; policies that a process pool is to take along must be picklable.
        on_cell: is told of every cell as it is there.

    Raises:
        InvalidInput: nothing to run, or a load has other gaps or replicas than the workload was made for.
    """
    if not (loads and policies and seeds):
        raise InvalidInput("grid", "needs a load, a policy and a seed at least")
    job = _Job(workload, loads, policies)
    cells: list[Cell] = []
    for cell in each(job, list(product(loads, policies, seeds))):
        cells.append(cell)
        if on_cell is not None:
            on_cell(cell)
    return Grid(tuple(cells))


def paired_ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Geometric mean of first ÷ second over the pairs, with Student's t on the logarithms.

    A ratio of two positive figures is as likely to be half as double; on the logarithm that is symmetric.
    """
    if not pairs or any(first <= 0 or second <= 0 for first, second in pairs):
        return Interval(mean=nan, low=nan, high=nan, n=len(pairs))
    logs = [log(first / second) for first, second in pairs]
    mean, n = fmean(logs), len(logs)
    if n == 1:
        return Interval(mean=exp(mean), low=nan, high=nan, n=1)
    half = _T95[min(n - 1, len(_T95)) - 1] * stdev(logs) / sqrt(n)
    return Interval(mean=exp(mean), low=exp(mean - half), high=exp(mean + half), n=n)


def seated(make: MakePolicy, setup: Setup, seed: int) -> MakeSeated:
    """What makes the policy of every router of one simulation."""
    if isinstance(make, MakeLinked):
        return make.linked(setup, seed)
    return lambda seat: make(seat.fleet, seed)


@dataclass(frozen=True, slots=True)
class _Job:
    """One cell's work; a value, so that a process pool can take it along."""

    workload: Workload
    loads: Mapping[str, Setup]
    policies: Mapping[str, MakePolicy]

    def __call__(self, place: Place) -> Cell:
        load, policy, seed = place
        setup = replace(self.loads[load], seed=seed)
        result = simulate(self.workload, setup, seated(self.policies[policy], setup, seed))
        return Cell(policy=policy, load=load, seed=seed, summary=summary(result))
