"""`agentic-serving render`: the objects that the operator would write."""

import sys

import click

from agentic_serving.cli.options import files, output
from agentic_serving.cli.output import documents, located, table
from agentic_serving.cli.planning import Planned, plan_files

__all__ = ["render_command"]


@click.command("render")
@files
@output(default="yaml")
def render_command(paths: tuple[str, ...], namespace: str, stack: str | None, output: str) -> None:
    """Print every object that the operator would write for the stacks in PATHS.

    Owner references are left out: they need the uid of an object in a cluster. Findings go to stderr; with
    errors, nothing is printed for that stack and the exit code is 1.
    """
    planned = plan_files(paths, namespace=namespace, stack=stack)
    for item in planned.findings:
        click.echo(located(item), err=True)
    click.echo(_text(planned) if output == "text" else _objects(planned, output))
    sys.exit(1 if planned.errors else 0)


def _objects(planned: Planned, output: str) -> str:
    return documents([dict(m.body) for _, plan in planned.plans for m in plan.manifests], output)


def _text(planned: Planned) -> str:
    rows = [
        (stack.metadata.name, manifest.key[1], manifest.key[2], manifest.key[0])
        for stack, plan in planned.plans
        for manifest in plan.manifests
    ]
    return table(("stack", "kind", "name", "api version"), rows)
