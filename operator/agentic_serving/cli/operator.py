"""`agentic-serving operator run`: the operator itself."""

import asyncio
import os
import random
import sys
from dataclasses import replace
from typing import Any

import click

from agentic_serving.cli.options import cluster_options
from agentic_serving.clock import SystemClock
from agentic_serving.settings import OperatorSettings

__all__ = ["operator"]


@click.group()
def operator() -> None:
    """The operator."""


@operator.command("run")
@cluster_options
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Only this namespace; may be repeated. All by default.",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Objects reconciled at the same time.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Port of /metrics, /healthz and /readyz; 0 serves none.",
)
@click.option(
    "--no-leader-election",
    "leaderless",
    is_flag=True,
    help="Do not wait for the Lease: for one operator at a time.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="Least severe level that is logged.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), help="How log lines are written.")
def run(leaderless: bool, **flags: Any) -> None:  # noqa: FBT001 (click passes flags by name)
    """Run the operator until it is told to stop.

    Every setting can also be given as an environment variable, AGENTIC_SERVING_ and its name in capitals, such as
    AGENTIC_SERVING_WORKERS; an option wins over it. Exit codes: 0 asked to stop, 1 leadership lost, 2 wrong settings.
    """
    from agentic_serving.controller.main import (
        run as run_operator,
    )  # kopf takes a second to import: only here

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    settings = replace(OperatorSettings.from_env(os.environ), **given)
    if leaderless:
        settings = replace(settings, leader_election=False)
    sys.exit(asyncio.run(run_operator(settings, clock=SystemClock(), rng=random.Random())))  # noqa: S311 (jitter, not secrets)
