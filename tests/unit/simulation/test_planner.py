"""simulation.objective, planner, attempts: the smallest fleet that meets an objective, and what is next to it."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profiles import NAMED
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Gaps, Setup, Workload
from agentic_serving.simulation.attempts import Attempt
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.equipment import equipment
from agentic_serving.simulation.objective import Measure, Objective
from agentic_serving.simulation.planner import Choice, Plan, Sample, Shape, Trial, plan, smallest, trial
from agentic_serving.simulation.records import Result, Timed
from tests.unit.simulation.builders import SIZE, chain, turn

P95 = Objective(measure="completion", percent=95, limit=10.0)


@given(answer=st.integers(1, 300), most=st.integers(1, 300), start=st.integers(1, 400))
def test_the_smallest_is_found_and_the_one_below_was_asked(answer: int, most: int, start: int) -> None:
    asked: list[int] = []

    def meets(n: int) -> bool:
        asked.append(n)
        return n >= answer

    assert smallest(meets, most, start=start) == (answer if answer <= most else None)
    assert len(asked) == len(set(asked)) <= 2 * math.log2(most) + 2
    assert all(1 <= n <= most for n in asked)
    assert answer - 1 in asked or answer == 1 or answer > most


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.floats(1, 100), st.floats(0.1, 100))
def test_a_percentile_below_the_limit_is_a_share_within_it(
    values: list[float], percent: float, limit: float
) -> None:
    found = Objective(measure="completion", percent=percent, limit=limit).verdict(values)
    n_within = sum(value <= limit for value in values)
    assert found.met == (n_within >= math.ceil(len(values) * percent / 100))


def timed(took_s: float, *, finished: bool = True, alone_s: float = 2.0) -> Timed:
    return Timed(id="t", arrived_s=0.0, took_s=took_s, alone_s=alone_s, finished=finished)


def result(tasks: Sequence[Timed], runs: Sequence[Timed] = ()) -> Result:
    return Result(turns=(), tasks=tuple(tasks), runs=tuple(runs), held_s=0.0, end_s=50.0, started=1)


@pytest.mark.parametrize(
    ("measure", "limit", "expected"),
    [
        ("completion", 10.0, [4.0, 12.0, 50.0]),
        ("slowdown", 3.0, [2.0, 6.0, 25.0]),
        ("run", 10.0, [70.0]),
    ],
)
def test_what_is_unfinished_counts_once_it_is_too_late(
    measure: Measure, limit: float, expected: list[float]
) -> None:
    """Of two unfinished tasks one is past every limit here; the young one may still make it."""
    found = result(
        [timed(4.0), timed(12.0), timed(50.0, finished=False), timed(3.0, finished=False)],
        [timed(70.0), timed(9.0, finished=False)],
    )
    assert Objective(measure=measure, percent=95, limit=limit).values(found) == expected


def test_a_mean_and_nothing_at_all() -> None:
    mean = Objective(measure="slowdown", percent=None, limit=2.0)
    assert (mean.verdict([1.0, 3.0]).met, mean.verdict([1.0, 3.1]).met) == (True, False)
    assert not mean.verdict([]).met
    assert (P95.thin(99), P95.thin(100), mean.thin(1)) == (True, False, False)


@pytest.mark.parametrize(("percent", "limit"), [(95, 0.0), (95, math.nan), (0, 1.0), (101, 1.0)])
def test_impossible_objectives_are_refused(percent: float, limit: float) -> None:
    with pytest.raises(InvalidInput):
        Objective(measure="completion", percent=percent, limit=limit)


def planned(wants: dict[int, int], shapes: Sequence[Shape], most: int = 20) -> Plan:
    """Fleets whose size decides: `wants` are sizes that do, by host memory."""

    def attempt(choice: Choice) -> Trial:
        value = 1.0 if choice.total >= wants[choice.shape.host_bytes] else 99.0
        sample = Sample(seed=0, values=(value,), recompute_share=0.0, held_s=0.0, unfinished_tasks=0)
        return trial(choice, [sample], P95)

    return plan(P95, shapes, attempt, most=most)


def test_the_recommended_fleet_has_fewest_replicas_then_least_memory() -> None:
    found = planned({0: 9, 10: 5, 20: 5}, [Shape(), Shape(host_bytes=20), Shape(host_bytes=10)])
    assert [one.choice.total for one in found.found] == [9, 5, 5]
    best = found.recommended
    assert best is not None
    assert (best.choice.total, best.choice.shape.host_bytes) == (5, 10)
    smaller = found.next_smaller(best)
    assert smaller is not None
    assert (smaller.choice.total, smaller.verdict.met) == (4, False)
    shapes = [one.choice.shape.host_bytes for one in found.trials]
    assert shapes == sorted(shapes, key=[0, 20, 10].index)  # by shape as given, then by size


def test_without_an_answer_the_curve_is_there() -> None:
    found = planned({0: 99}, [Shape()])
    assert found.recommended is None
    assert found.trials[-1].choice.total == 20


def test_prefill_and_decode_grow_in_their_ratio() -> None:
    found = planned({0: 7}, [Shape(prefill=1, replicas=2)])
    best = found.recommended
    assert best is not None
    assert (best.choice.prefill, best.choice.replicas) == (3, 6)
    with pytest.raises(InvalidInput, match="more than 2"):
        planned({0: 1}, [Shape(prefill=1, replicas=2)], most=2)


def test_simulated_fleets_need_more_replicas_for_a_tighter_objective() -> None:
    """Eight programs of one turn that arrive at once on replicas that run one at a time."""
    programs = [chain(f"p{i}", turn(0, 5, output=4)) for i in range(8)]
    limits = Limits(n_blocks=2, block_size=SIZE, max_seqs=1)
    made = equipment(limits, cache_tokens=400, profile=NAMED["sketch"])
    sizes = []
    for limit in (1.0, 0.5, 0.1):
        objective = Objective(measure="completion", percent=100, limit=limit)
        attempt = Attempt(
            workload=Workload(programs, made.fleet(1), Gaps()),
            equipment=made,
            setup=Setup(fleet=made.fleet(1), load=ClosedLoop(live=8)),
            policy=BASELINES["least-load"],
            objective=objective,
        )
        found = plan(
            objective,
            [Shape()],
            lambda choice: trial(choice, [attempt((choice, 1))], objective),  # noqa: B023 - called at once
            most=8,
        )
        best = found.recommended
        assert best is not None
        sizes.append(best.choice.total)
        value = best.verdict.value
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    floor = objective.floor(attempt.workload.alone(one) for one in attempt.workload.scripts)
    assert 0 < floor <= value
