"""`agentic-serving`, also found by kubectl as `kubectl agentic`.

Exit codes: 0 all is well; 1 the objects have errors (`render`, `validate`, `explain`) or differ from the cluster
(`diff`); 2 wrong usage, a file that cannot be read, or a cluster that cannot be reached.
"""

import sys

import click

from agentic_serving import __version__
from agentic_serving.cli.diff import diff
from agentic_serving.cli.explain import explain
from agentic_serving.cli.fleetplan import plan
from agentic_serving.cli.model import model
from agentic_serving.cli.operator import operator
from agentic_serving.cli.render import render_command
from agentic_serving.cli.replay import replay
from agentic_serving.cli.scheduler import scheduler
from agentic_serving.cli.simulate import simulate
from agentic_serving.cli.top import top
from agentic_serving.cli.validate import validate
from agentic_serving.errors import AgenticServingError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="agentic-serving")
def cli() -> None:
    """Serve LLM agents on Kubernetes: see, check and compare what the operator makes of your objects.

    PATHS are files, folders (read recursively) or - for standard input, in YAML or JSON. Only `diff`, `top`,
    `explain run` and `operator` need a cluster; nothing needs a GPU.
    """


for command in (
    render_command,
    validate,
    explain,
    diff,
    model,
    replay,
    simulate,
    plan,
    operator,
    scheduler,
    top,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2, never a traceback."""
    try:
        cli(prog_name=_program_name())
    except AgenticServingError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _program_name() -> str:
    return "kubectl agentic" if sys.argv[0].endswith("kubectl-agentic") else "agentic-serving"
