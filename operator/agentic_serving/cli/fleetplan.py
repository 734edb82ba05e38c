"""`agentic-serving plan`: the smallest fleet that meets an objective. (`planning.py` is about rendering.)"""

import sys
from pathlib import Path
from typing import Any

import click

from agentic_serving.cli.fleet_options import equipment_options, run_options, workload_options
from agentic_serving.cli.options import output as output_option
from agentic_serving.cli.simulate import INTERRUPTED
from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.policies import planning_policy

__all__ = ["plan"]


@click.command()
@workload_options
@equipment_options
@click.option("--completion", metavar="pN=TIME", help="Objective: of tasks, such as p95=2m; or mean=TIME.")
@click.option(
    "--slowdown", metavar="pN=X", help="Objective: completion of tasks ÷ that without contention: p95=2."
)
@click.option("--run", metavar="pN=TIME", help="Objective: completion of whole runs, without humans' gaps.")
@click.option("--first-token", metavar="pN=TIME", help="Objective: of every turn.")
@click.option("--rate", type=float, metavar="PER_S", help="Programs arrive at random, so many per second.")
@click.option(
    "--programs", type=int, metavar="N", help="So many programs are live: when one ends, the next starts."
)
@click.option(
    "--host-memory",
    "host_sizes",
    multiple=True,
    metavar="SIZE",
    help="KV cache in host memory of each replica, such as 100Gi; repeatable, 0 for none: all sizes are tried.",
)
@click.option(
    "--ratio",
    "ratios",
    multiple=True,
    metavar="P:D",
    help="Also prefill and decode apart, P replicas for D; repeatable. Needs --model.",
)
@click.option(
    "--policy", metavar="NAME", default=planning_policy(), show_default=True, help="As of `simulate`."
)
@click.option("--max-replicas", type=int, default=64, show_default=True, help="The largest fleet to try.")
@run_options(seeds=4)
@click.option(
    "--name", metavar="NAME", help="Of the objects that -o yaml prints; from the model's without it."
)
@click.option(
    "--output-dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write plan.json, plan.txt, the objects and the attainment curve (.png, .svg) there.",
)
@output_option()
def plan(output: str, **given: Any) -> None:
    """Find the smallest fleet that meets an objective, by simulation.

    Give one objective, a trace, what a replica is, and how programs arrive: --rate, --programs, or else as recorded. The
    answer comes with every fleet that was simulated, what the next smaller one would do, and what all of it rests on.
    With --model and --accelerator, -o yaml prints the AgenticServingStack (and KVTierPolicy) for it.

    Exit codes: 0 found; 1 no fleet up to --max-replicas meets it; 2 bad input; 130 interrupted.
    """
    try:
        from agentic_serving.cli import fleetplanning
    except ModuleNotFoundError as error:
        raise InvalidInput("plan", f"needs {error.name}: pip install 'agentic-serving[simulate]'") from None
    found = fleetplanning.run(given, with_objects=output == "yaml")
    shown = found.show(output)
    if shown:
        click.echo(shown)
    if given["folder"] is not None:
        for path in fleetplanning.write(found, given["folder"]):
            click.echo(f"wrote {path}", err=True)
    if found.interrupted:
        sys.exit(INTERRUPTED)
    if found.plan.recommended is None:
        click.echo(f"error: {found.failure}", err=True)
        sys.exit(1)
