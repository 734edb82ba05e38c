"""`agentic-serving simulate`: policies against loads on a simulated fleet."""

import sys
from pathlib import Path
from typing import Any

import click

from agentic_serving.cli.fleet_options import equipment_options, run_options, workload_options
from agentic_serving.cli.output import data
from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.policies import POLICIES

__all__ = ["INTERRUPTED", "simulate"]

#: 128 + SIGINT, as shells have it.
INTERRUPTED = 130


@click.command()
@workload_options
@click.option("--replicas", type=int, default=8, show_default=True, help="Equal replicas of the fleet.")
@equipment_options
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help=f"Repeatable; all without it: {', '.join(POLICIES)}.",
)
@click.option("--against", metavar="NAME", help="Compare the others with this policy, seed by seed.")
@click.option(
    "--demand",
    "demands",
    multiple=True,
    type=float,
    metavar="X",
    help="Closed loop: so many live programs that they want X times all KV caches; repeatable. The default for "
    "traces without arrival times: 0.5, 1, 1.5, 2, 3.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=float,
    metavar="PER_S",
    help="Open loop: programs arrive at random, so many per second; repeatable.",
)
@click.option(
    "--recorded",
    "speeds",
    multiple=True,
    type=float,
    metavar="SPEED",
    help="Open loop: arrivals as recorded, SPEED times as fast; repeatable. The default for traces that have them: 1.",
)
@run_options(seeds=5)
@click.option(
    "--output-dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write report.json, report.md and pictures (.png, .svg) there.",
)
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True)
def simulate(output: str, **given: Any) -> None:
    """Simulate programs on a fleet under several policies and loads, with the same seeds for each.

    Task completion, slowdown, recompute share and holds, as a table or JSON on stdout; progress on stderr. Ctrl-C ends
    it and reports what is done. docs/simulate.md says what is modelled.

    Exit codes: 0 done; 2 bad input; 130 interrupted.
    """
    try:
        from agentic_serving.cli import simulating
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "simulate", f"needs {error.name}: pip install 'agentic-serving[simulate]'"
        ) from None
    report = simulating.run(given)
    click.echo(data(report.data(), "json") if output == "json" else simulating.text(report))
    if given["folder"] is not None:
        for path in simulating.write(report, given["folder"]):
            click.echo(f"wrote {path}", err=True)
    if not report.complete:
        sys.exit(INTERRUPTED)
