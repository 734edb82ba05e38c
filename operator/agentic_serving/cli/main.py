"""`agentic-serving`, also found by kubectl as `kubectl agentic`.

Exit codes: 0 all is well; 1 the objects have errors (`render`, `validate`, `explain`) or differ from the cluster
(`diff`); 2 wrong usage, a file that cannot be read, or a cluster that cannot be reached.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from agentic_serving import __version__
from agentic_serving.errors import AgenticServingError

__all__ = ["COMMANDS", "main"]

#: Where each command is. Only the one that runs is imported: all together take longer than a scheduler may take to start.
COMMANDS: Mapping[str, str] = {
    "diff": "diff:diff",
    "explain": "explain:explain",
    "model": "model:model",
    "operator": "operator:operator",
    "plan": "fleetplan:plan",
    "render": "render:render_command",
    "replay": "replay:replay",
    "scheduler": "scheduler:scheduler",
    "simulate": "simulate:simulate",
    "top": "top:top",
    "validate": "validate:validate",
}


class _Commands(click.Group):
    """Commands by name, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click asks
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        module, _, name = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        found: Any = getattr(import_module(f"agentic_serving.cli.{module}"), name)
        return found if isinstance(found, click.Command) else None


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="agentic-serving")
def cli() -> None:
    """Serve LLM agents on Kubernetes: see, check and compare what the operator makes of your objects.

    PATHS are files, folders (read recursively) or - for standard input, in YAML or JSON. Only `diff`, `top`,
    `explain run` and `operator` need a cluster; nothing needs a GPU.
    """


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2, never a traceback."""
    try:
        cli(prog_name=_program_name())
    except AgenticServingError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _program_name() -> str:
    return "kubectl agentic" if sys.argv[0].endswith("kubectl-agentic") else "agentic-serving"
