"""simulation.report, plots, pool and programs: what a reader of a grid sees, also of one that was cut short."""

import json
import math
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import ClosedLoop, Gaps, Setup, Workload
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.grid import Grid, MakePolicy, run_grid
from agentic_serving.simulation.plots import plot_attainment, plot_grid
from agentic_serving.simulation.policies import POLICIES, find_policies, planning_policy
from agentic_serving.simulation.pool import Workers, each
from agentic_serving.simulation.programs import check_one_block_size, repeated
from agentic_serving.simulation.report import LoadPoint, Report, finite, markdown, text
from tests.unit.simulation.builders import chain, fleet, turn

PROGRAMS = [chain(f"p{i}", turn(0, 5 + i, output=4), turn(1, 9 + i, gap_s=2.0)) for i in range(6)]
LOADS = (LoadPoint("demand", 1.0), LoadPoint("demand", 2.0))
NAMES = ("round-robin", "session-affinity")


def grid(jobs: int = 1) -> Grid:
    small = fleet(2, n_blocks=40, max_seqs=2)
    setups = {
        load.name: Setup(fleet=small, load=ClosedLoop(live=live))
        for load, live in zip(LOADS, (2, 4), strict=True)
    }
    workload = Workload(PROGRAMS, small, Gaps())
    policies = {name: BASELINES[name] for name in NAMES}
    return run_grid(workload, setups, policies, [0, 1, 2], each=each(jobs))


def report(found: Grid, *, against: str | None = "round-robin") -> Report:
    return Report(
        about={"replicas": 2, "horizonSeconds": math.inf},
        loads=LOADS,
        policies=NAMES,
        grid=found,
        n_planned=12,
        against=against,
        notes=("KV cache: as given.",),
    )


def test_a_row_has_the_mean_over_seeds_and_the_gain_over_the_same_seeds() -> None:
    made = report(grid())
    rows = [line.split("   ") for line in text(made).splitlines() if line.startswith("session-affinity")]
    by_seed = made.grid.values("task_s.mean", policy="session-affinity", load="1x")
    assert [cell.strip() for cell in rows[0] if cell.strip()][1] == f"{sum(by_seed.values()) / 3:,.1f}"
    theirs = made.grid.values("task_s.mean", policy="round-robin", load="1x")
    geometric = math.prod(theirs[seed] / by_seed[seed] for seed in by_seed) ** (1 / 3)
    assert f"{geometric:.3f} (" in "".join(rows[0])


def test_json_has_every_cell_and_no_number_that_json_lacks() -> None:
    found = json.loads(json.dumps(report(grid()).data(), allow_nan=False))
    assert found["horizonSeconds"] is None
    assert (found["complete"], len(found["cells"])) == (True, 12)
    ours = found["loads"][1]["policies"][1]
    assert (ours["policy"], ours["seeds"], ours["totals"]["turns"]) == ("session-affinity", 3, 36)
    assert ours["gains"]["task_s.mean"]["n"] == 3
    assert "gains" not in found["loads"][1]["policies"][0]  # the one compared with


def test_the_order_in_which_processes_finish_does_not_show() -> None:
    one = grid()
    turned = Grid(tuple(reversed(one.cells)))
    assert report(one).data() == report(turned).data()
    assert text(report(one)) == text(report(turned))


def test_an_interrupted_grid_says_so_and_shows_what_there_is() -> None:
    cut = report(Grid(grid().cells[:4]))  # one policy's three seeds, and one seed of the next
    assert not cut.complete
    assert "INTERRUPTED after 4 of 12" in text(cut)
    assert [len(load["policies"]) for load in cut.data()["loads"]] == [2, 0]
    assert "| session-affinity | - |" in markdown(cut)  # at the load that was not reached


def test_one_seed_has_no_interval_and_nothing_to_compare_has_no_column() -> None:
    found = grid()
    one = Grid(tuple(cell for cell in found.cells if not cell.seed))
    assert "one seed: no interval" in text(report(one))
    assert "nan" not in text(report(one))
    assert "gain" not in text(report(found, against=None)).lower()


def test_a_markdown_table_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in markdown(report(grid())).splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + len(NAMES))
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(math.nan, None), ((1.0, -math.inf), [1.0, None]), ({"a": [math.inf]}, {"a": [None]}), ("nan", "nan")],
    ids=["nan", "tuple", "nested", "text"],
)
def test_finite(value: object, expected: object) -> None:
    assert finite(value) == expected


def test_pictures_are_written_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    made = report(grid())
    assert {path.name for path in plot_grid(made, tmp_path)} == {"demand.png", "demand.svg"}
    assert b"<svg" in (tmp_path / "demand.svg").read_bytes()
    plot_grid(report(Grid(made.grid.cells[:1])), tmp_path)  # an interrupted one too
    with pytest.raises(InvalidInput, match="absent"):
        plot_attainment({"none": [(1, 0.5)]}, wanted=0.95, title="t", path=tmp_path / "absent" / "curve")


def test_processes_give_the_cells_that_one_process_gives() -> None:
    assert set(grid(jobs=2).cells) == set(grid().cells)


@dataclass(frozen=True)
class _Dies:
    def __call__(self, place: int) -> int:
        os._exit(place)


def test_a_killed_worker_is_an_error_and_no_hang() -> None:
    with pytest.raises(InvalidInput, match="killed"), Workers(_Dies(), 2) as workers:
        list(workers.run([9, 9]))


def test_policies_go_by_name() -> None:
    assert list(find_policies(["las", "scorers", "las"])) == ["las", "scorers"]
    assert planning_policy() in POLICIES
    with pytest.raises(InvalidInput, match=r"--policy: there is no 'lass'; use some of .*\blas\b"):
        find_policies(["lass"], field="--policy")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_go_to_another_process(name: str) -> None:
    there = pickle.loads(pickle.dumps(POLICIES[name]))  # noqa: S301 - our own, just written
    assert run_one(there) == run_one(POLICIES[name])


def run_one(make: MakePolicy) -> Grid:
    setup = Setup(fleet=fleet(2, n_blocks=40, max_seqs=2), load=ClosedLoop(live=3))
    return run_grid(Workload(PROGRAMS, setup.fleet, setup.gaps), {"load": setup}, {"one": make}, [1])


def test_laps_share_no_block_and_follow_each_other() -> None:
    first, second = chain("a", turn(0, 5), start_s=3.0), chain("b", turn(0, 5), start_s=10.0)
    found = repeated([first, second], 2)
    assert [one.id for one in found] == ["a", "b", "a~1", "b~1"]
    assert [one.start_s for one in found] == [3.0, 10.0, 13.0, 20.0]
    assert len({one.scope for one in found}) == 4


def test_blocks_of_two_sizes_are_refused_with_one_program_of_each() -> None:
    small = chain("small", turn(0, 5))
    assert check_one_block_size([small]) == 4
    other = chain("other", replace(turn(0, 5), block_size=16))
    with pytest.raises(InvalidInput, match=r"4 \(claude-code small\), 16 \(claude-code other\)"):
        check_one_block_size([small, other])
