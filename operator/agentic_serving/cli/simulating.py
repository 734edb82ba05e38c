"""What `simulate` does once its options are read: apart, because it needs the `simulate` extra's packages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentic_serving.cli.fleet_inputs import Inputs, about, jobs, read_inputs, routing
from agentic_serving.cli.fleet_progress import Bar
from agentic_serving.cli.output import data
from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import ClosedLoop, Fleet, OpenLoop, Setup, Workload
from agentic_serving.simulation.grid import Cell, Grid, MakePolicy, run_grid
from agentic_serving.simulation.plots import available, plot_grid
from agentic_serving.simulation.policies import POLICIES, find_policies
from agentic_serving.simulation.pool import each
from agentic_serving.simulation.report import LoadPoint, Report, markdown, text
from agentic_serving.simulation.setup import Load
from agentic_serving.workload import Program

__all__ = ["make_folder", "run", "text", "write"]

#: The whole curve, from half of what the caches hold to three times that.
_DEMANDS = (0.5, 1.0, 1.5, 2.0, 3.0)


def run(given: Mapping[str, Any]) -> Report:
    """Read everything, check everything, simulate.

    Raises:
        InvalidInput: an option, a trace or the folder for the report is no good.
    """
    inputs, policies, n_jobs = read_inputs(given), _policies(given), jobs(given)
    if given["replicas"] < 1:
        raise InvalidInput("--replicas", "must be at least 1")
    fleet = inputs.equipment.fleet(given["replicas"])
    points = _points(given, inputs.programs)
    workload = Workload(inputs.programs, fleet, inputs.gaps)
    setups = {point.name: _setup(point, workload, inputs, fleet) for point in points}
    if given["folder"] is not None:
        available()
        make_folder(given["folder"])
    cells = _simulate(workload, setups, policies, inputs.seeds, n_jobs)
    return Report(
        about={"replicas": given["replicas"], **about(inputs, given), "live": _live(setups)},
        loads=points,
        policies=tuple(policies),
        grid=Grid(tuple(cells)),
        n_planned=len(setups) * len(policies) * len(inputs.seeds),
        against=given["against"],
        notes=(*inputs.equipment.assumptions, routing(inputs)),
    )


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """The report's files; those that were written.

    Raises:
        InvalidInput: one cannot be written.
    """
    texts = {"report.json": data(report.data(), "json") + "\n", "report.md": markdown(report)}
    for name, content in texts.items():
        try:
            (folder / name).write_text(content, encoding="utf-8")
        except OSError as error:
            raise InvalidInput("--output-dir", f"{folder / name}: {error.strerror or error}") from None
    return (*(folder / name for name in texts), *plot_grid(report, folder))


def make_folder(folder: Path) -> None:
    """Raises: InvalidInput: it cannot be made; better known before simulating than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput("--output-dir", f"{folder}: {error.strerror or error}") from None


def _simulate(
    workload: Workload,
    setups: Mapping[str, Setup],
    policies: Mapping[str, MakePolicy],
    seeds: Sequence[int],
    n_jobs: int,
) -> list[Cell]:
    """The cells that are done: all, or those before Ctrl-C."""
    cells: list[Cell] = []

    def done(cell: Cell) -> None:
        cells.append(cell)
        bar.step(f"{cell.policy} at {cell.load}")

    with Bar("simulate", total=len(setups) * len(policies) * len(seeds)) as bar:
        try:
            run_grid(workload, setups, policies, seeds, each=each(n_jobs), on_cell=done)
        except KeyboardInterrupt:
            bar.say("interrupted: reporting what is done")
    return cells


def _policies(given: Mapping[str, Any]) -> dict[str, MakePolicy]:
    found = find_policies(given["policies"] or POLICIES, field="--policy")
    against = given["against"]
    if against is not None and against not in found:
        found |= find_policies([against], field="--against")
    return found


def _points(given: Mapping[str, Any], programs: Sequence[Program]) -> tuple[LoadPoint, ...]:
    found = [
        *(LoadPoint("demand", value) for value in given["demands"]),
        *(LoadPoint("rate", value) for value in given["rates"]),
        *(LoadPoint("recorded", value) for value in given["speeds"]),
    ]
    for point in found:
        if not point.value > 0:
            raise InvalidInput(f"--{point.kind}", "must be positive")
    timed = all(program.open_loop for program in programs)
    if given["speeds"] and not timed:
        raise InvalidInput("--recorded", "the programs have no arrival times; use --demand or --rate")
    if not found:
        found = [LoadPoint("recorded", 1.0)] if timed else [LoadPoint("demand", x) for x in _DEMANDS]
    return tuple(dict.fromkeys(found))


def _setup(point: LoadPoint, workload: Workload, inputs: Inputs, fleet: Fleet) -> Setup:
    load: Load
    if point.kind == "demand":
        load = inputs.closed(workload.live_for(point.value, fleet), f"--demand {point.value:g}")
    elif point.kind == "rate":
        load = OpenLoop(per_s=point.value)
    else:
        load = OpenLoop(speed=point.value)
    return inputs.setup(fleet, load)


def _live(setups: Mapping[str, Setup]) -> dict[str, int]:
    """Live programs of each closed loop."""
    return {name: setup.load.live for name, setup in setups.items() if isinstance(setup.load, ClosedLoop)}
