"""simulation.metrics and simulation.grid: figures by hand, and the same workload for every policy."""

import math
import pickle

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import ClosedLoop, Gaps, OpenLoop, Setup, Workload, summary
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.grid import Cell, paired_ratio, run_grid
from agentic_serving.simulation.metrics import METRICS, distribution, percentile
from agentic_serving.simulation.records import Result, Timed
from tests.unit.simulation.builders import chain, fleet, turn

PROGRAMS = [chain(f"p{i}", turn(0, 5 + i, output=4), turn(1, 9 + i, gap_s=2.0)) for i in range(6)]


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 2.0), (51, 3.0), (95, 4.0), (25, 1.0), (1, 1.0), (100, 4.0)]
)
def test_percentiles_are_values_that_occurred(percent: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == expected


def test_a_distribution_of_nothing_has_no_mean() -> None:
    found = distribution([])
    assert found.n == 0
    assert math.isnan(found.mean)


def test_starved_tasks_count_with_their_age() -> None:
    def timed(took_s: float, *, finished: bool) -> Timed:
        return Timed(id="t", arrived_s=0.0, took_s=took_s, alone_s=2.0, finished=finished)

    result = Result(
        turns=(),
        tasks=(timed(4.0, finished=True), timed(100.0, finished=False), timed(1.0, finished=False)),
        runs=(),
        held_s=90.0,
        end_s=100.0,
        started=3,
    )
    found = summary(result)
    assert (found.task_s.mean, found.task_s.most, found.unfinished_tasks) == (35.0, 100.0, 2)
    assert (found.task_slowdown.n, found.task_slowdown.mean) == (
        2,
        26.0,
    )  # the young one has lost nothing yet
    assert found.held_s == 90.0


@pytest.mark.parametrize(
    ("pairs", "mean", "low", "high"),
    [
        ([(4.0, 2.0), (8.0, 4.0), (2.0, 1.0)], 2.0, 2.0, 2.0),
        ([(2.0, 1.0), (1.0, 2.0)], 1.0, math.exp(-12.706 * math.log(2)), math.exp(12.706 * math.log(2))),
    ],
    ids=["always double", "double or half: nothing is known"],
)
def test_paired_ratios_have_t_intervals(
    pairs: list[tuple[float, float]], mean: float, low: float, high: float
) -> None:
    found = paired_ratio(pairs)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, low, high))


@pytest.mark.parametrize("pairs", [[], [(1.0, 0.0)], [(0.0, 1.0)]], ids=["none", "by zero", "of zero"])
def test_ratios_of_nothing_are_not_numbers(pairs: list[tuple[float, float]]) -> None:
    assert math.isnan(paired_ratio(pairs).mean)
    assert math.isnan(paired_ratio([(1.0, 2.0)]).low)  # one seed has no interval


def test_a_grid_has_every_cell_and_compares_equal_seeds() -> None:
    small = fleet(2, n_blocks=40, max_seqs=2)
    loads = {
        "closed": Setup(fleet=small, load=ClosedLoop(live=3)),
        "open": Setup(fleet=small, load=OpenLoop(per_s=0.2)),
    }
    policies = {name: BASELINES[name] for name in ("round-robin", "session-affinity")}
    seen: list[Cell] = []
    grid = run_grid(Workload(PROGRAMS, small, Gaps()), loads, policies, [1, 2, 3], on_cell=seen.append)
    assert list(grid.cells) == seen
    assert len({(cell.load, cell.policy, cell.seed) for cell in grid.cells}) == 2 * 2 * 3
    assert set(grid.values("task_s.mean", policy="round-robin", load="open")) == {1, 2, 3}
    gain = grid.gain("task_s.mean", policy="session-affinity", against="round-robin", load="closed")
    assert gain.n == 3
    assert gain.low <= gain.mean <= gain.high
    same = grid.gain("task_s.p95", policy="round-robin", against="round-robin", load="open")
    assert (same.mean, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    for metric in METRICS:
        assert len(grid.values(metric, policy="round-robin", load="open")) == 3


def test_what_a_grid_needs_can_go_to_other_processes() -> None:
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1))
    workload = Workload(PROGRAMS, setup.fleet, setup.gaps)
    sent = pickle.loads(pickle.dumps((workload, {"load": setup}, dict(BASELINES))))  # noqa: S301 - our own, just written
    policies = {"round-robin": sent[2]["round-robin"]}
    there = run_grid(sent[0], sent[1], policies, [1])
    assert there == run_grid(workload, {"load": setup}, {"round-robin": BASELINES["round-robin"]}, [1])


def test_an_empty_grid_is_refused() -> None:
    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1))
    with pytest.raises(InvalidInput, match="at least"):
        run_grid(Workload(PROGRAMS, setup.fleet, setup.gaps), {"load": setup}, dict(BASELINES), [])


def test_live_for_averages_over_the_time_that_programs_live() -> None:
    """24 tokens until the second turn comes, then 44: what is held between is counted for as long as it is held."""
    roomy = fleet(1)
    workload = Workload([chain("a", turn(0, 5, output=4), turn(1, 10, output=4))], roomy, Gaps())
    path = workload.alone(workload.scripts[0])
    second_s, end_s = path.ready_s[1], path.end_s[1]
    mean = (24 * second_s + 44 * (end_s - second_s)) / end_s
    assert workload.live_for(1.0, roomy) == round(3996 / mean)
    assert workload.live_for(0.001, roomy) == 1
