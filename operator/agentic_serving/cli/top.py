"""`agentic-serving top`: what a stack's scheduler does now."""

import asyncio
import sys
from typing import Any

import click

from agentic_serving.cli.output import data
from agentic_serving.cli.scheduler_source import Where, open_source, source_options
from agentic_serving.errors import InvalidInput

__all__ = ["top"]


@click.command()
@click.argument("stack", required=False)
@source_options
@click.option("--once", is_flag=True, help="Print once and end, as it does where stdout is no terminal.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True)
def top(stack: str | None, once: bool, interval: float, output: str, **where: Any) -> None:  # noqa: FBT001 (click passes flags by name)
    """Show STACK's programs, sessions, holds with their reasons, and replicas, as they are now; Ctrl-C ends it.

    STACK may be left out where the namespace has one. `-o json` prints one look.
    """
    found = Where(stack=stack, **where)
    if output == "json":
        click.echo(data(asyncio.run(_look(found)), "json"))
        return
    try:
        from agentic_serving.cli import top_view
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "top", f"needs {error.name}: pip install 'agentic-serving[top]'; -o json works without"
        ) from None
    if once or not sys.stdout.isatty():
        top_view.show(asyncio.run(_look(found)))
        return
    try:
        asyncio.run(_follow(found, interval))
    except KeyboardInterrupt:
        return


async def _look(where: Where) -> dict[str, Any]:
    async with open_source(where) as source:
        page = await source.get("/v1/live")
    if page is None:
        raise InvalidInput("top", "this is no scheduler, or an older one: it has no /v1/live")
    return page


async def _follow(where: Where, interval_s: float) -> None:
    """Look again and again; a look that fails is said, and the last one stays."""
    from agentic_serving.cli import top_view
    from agentic_serving.errors import ClusterError

    async with open_source(where) as source:
        page = await source.get("/v1/live")
        with top_view.screen() as screen:
            problem = ""
            while True:
                screen.update(top_view.layout(page or {}, problem, screen.console.size.height), refresh=True)
                await asyncio.sleep(interval_s)
                try:
                    page, problem = await source.get("/v1/live"), ""
                except (ClusterError, InvalidInput) as error:
                    problem = str(error)
