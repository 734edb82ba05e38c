"""`agentic-serving explain`: which rule produced each object, option and variable, and where the rule comes from.

`explain run ID` is of the same name and another matter: what the scheduler did with a run (`explain_run`).
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from agentic_serving.api.quantities import format_bytes
from agentic_serving.capacity.accelerator import load_accelerators
from agentic_serving.capacity.models import load_models
from agentic_serving.cli.explain_run import explain_run
from agentic_serving.cli.options import output as output_option
from agentic_serving.cli.output import data, located, table
from agentic_serving.cli.planning import plan_files
from agentic_serving.render.explain import Explained
from agentic_serving.render.explain import explain as explain_plan
from agentic_serving.render.releases import load_release, release_names

__all__ = ["explain"]

Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


class _PathsOrRun(click.Command):
    """PATHS, but for `run ID`. A file that is called run, alone, is a path: so it was before there was the other."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["run"] and (args[1:] or not Path("run").exists()):
            return explain_run.make_context(f"{info_name} run", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


@click.command(cls=_PathsOrRun)
@click.argument("paths", nargs=-1, required=True)
@click.option("--stack", metavar="NAME", help="Only this AgenticServingStack.")
@click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
)
@click.option(
    "--only",
    metavar="TEXT",
    help="Only objects and items whose name contains this, such as shutdown-timeout.",
)
@output_option()
def explain(paths: tuple[str, ...], stack: str | None, namespace: str, only: str | None, output: str) -> None:
    """Say for every generated object and option which rule produced it, why, and on what source it rests.

    PATHS may also be one of the words presets, models or releases: the built-in tables.

    `explain run ID` says what the scheduler did with a run of agents, and why: see `explain run --help`. A file of that
    name is ./run.
    """
    if len(paths) == 1 and paths[0] in _TABLES:
        header, rows = _TABLES[paths[0]]()
        text = table(header, rows)
        click.echo(
            text if output == "text" else data([dict(zip(header, row, strict=True)) for row in rows], output)
        )
        return
    planned = plan_files(paths, namespace=namespace, stack=stack)
    for item in planned.findings:
        click.echo(located(item), err=True)
    explained = [e for _, plan in planned.plans for e in explain_plan(plan) if _wanted(e, only)]
    click.echo(_text(explained) if output == "text" else data([_row(e) for e in explained], output))
    sys.exit(1 if planned.errors else 0)


def _wanted(item: Explained, only: str | None) -> bool:
    return only is None or only in item.item or only in item.object


def _row(item: Explained) -> dict[str, object]:
    return {"object": item.object, "item": item.item, **asdict(item.rule)}


def _text(explained: Iterable[Explained]) -> str:
    """One block per object; under it each item with its reason and source."""
    lines: list[str] = []
    current = ""
    for item in explained:
        if item.object != current:
            current = item.object
            lines += ["", click.style(current, bold=True)]
        lines.append(f"  {item.item or '(the object)'}")
        lines.append(f"      {item.rule.reason}")
        lines.append(f"      rule {item.rule.id}; source: {item.rule.source}")
    return "\n".join(lines).lstrip("\n")


def _presets() -> Table:
    header = ("name", "vendor", "resource", "memory", "devices per node", "description")
    return header, [
        (
            a.name,
            a.vendor,
            a.resource_name or "-",
            format_bytes(a.memory_bytes) if a.memory_bytes else "-",
            a.devices_per_node or "-",
            a.description,
        )
        for a in load_accelerators().values()
    ]


def _models() -> Table:
    header = ("name", "attention", "KV bytes per token", "weights", "context tokens")
    return header, [
        (
            m.name,
            m.attention,
            m.kv_bytes_per_token,
            format_bytes(m.weight_bytes) if m.weight_bytes else "-",
            m.max_context_tokens or "-",
        )
        for m in load_models().values()
    ]


def _releases() -> Table:
    releases = [load_release(name) for name in release_names()]
    header = ("name", "image", "configuration", "does not have")
    return header, [(r.name, r.image, r.config_api_version, ", ".join(r.lacks) or "-") for r in releases]


_TABLES: dict[str, Callable[[], Table]] = {"presets": _presets, "models": _models, "releases": _releases}
