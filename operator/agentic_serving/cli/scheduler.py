"""`agentic-serving scheduler run`: the program scheduler of one stack, behind its Envoy."""

import asyncio
import os
import random
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

import click

from agentic_serving.cli.options import cluster_options
from agentic_serving.clock import SystemClock
from agentic_serving.errors import InvalidInput
from agentic_serving.settings import from_environment

__all__ = ["scheduler"]

_PORT = click.IntRange(0, 65535)


#: Imported by a scheduler that begins after it has begun: until then calls go on without it.
_LATER = "agentic_serving.cluster.kube"


@click.group()
def scheduler() -> None:
    """The program scheduler."""


@scheduler.command("run")
@cluster_options
@click.option(
    "--config", metavar="FILE", help="scheduler.json, as the operator renders it; read again when it changes."
)
@click.option(
    "--grpc-port", type=_PORT, help="Port that Envoy asks: external processing, access log, health."
)
@click.option(
    "--http-port", type=_PORT, help="Port of /metrics, /healthz, /readyz and what top and explain run read."
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="Least severe level that is logged.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), help="How log lines are written.")
@click.option(
    "--standby", is_flag=True, help="Import everything, and begin when a line comes on standard input."
)
def run(*, standby: bool, **flags: Any) -> None:
    """Serve one stack's Envoys until told to stop; held requests go on then.

    Every setting can also be given as an environment variable, AGENTIC_SERVING_ and its name in capitals, such as
    AGENTIC_SERVING_GRPC_PORT; an option wins over it. Exit codes: 0 asked to stop, 1 a part failed, 2 wrong settings.
    """
    try:
        from agentic_serving.router.main import run as run_scheduler  # grpc and aiohttp: only here
        from agentic_serving.router.settings import SchedulerSettings
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "scheduler", f"needs {error.name}, which is not installed: pip install 'agentic-serving[router]'"
        ) from error
    if standby and not _told_to_begin():
        return
    given = {name: value for name, value in flags.items() if value is not None}
    settings = replace(from_environment(SchedulerSettings(), os.environ), **given)
    sys.exit(asyncio.run(run_scheduler(settings, clock=SystemClock(), rng=random.Random())))  # noqa: S311 (jitter, not secrets)


def _told_to_begin() -> bool:
    """Waits as the keeper's spare process (`router/keeper.py`); False: the keeper is gone."""
    import_module(_LATER)
    return bool(sys.stdin.buffer.readline())
