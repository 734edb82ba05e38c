"""Options of `simulate` and `plan`: whose programs, on what replicas, how often."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agentic_serving.api.quantities import parse_duration
from agentic_serving.workload.generate import KINDS

__all__ = ["MADE_UP", "equipment_options", "run_options", "seconds", "workload_options"]

#: Programs that are made up where --sessions does not say how many.
MADE_UP = 64

F = TypeVar("F", bound=Callable[..., Any])


def seconds(_context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A duration as Kubernetes writes it, in seconds."""
    return None if value is None else parse_duration(value, parameter.opts[0])


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(function: F) -> F:
        for option in reversed(options):  # as decorators stand: the first is listed first
            function = option(function)
        return function

    return add


def workload_options(function: F) -> F:
    """Which programs, and how their gaps become simulated ones."""
    return _all(
        click.option(
            "--trace",
            "traces",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="File or folder of Claude Code sessions, Mooncake requests or OTel gen_ai spans; repeatable.",
        ),
        click.option(
            "--workload", "kind", metavar="KIND", help=f"Made-up programs instead: {', '.join(KINDS)}."
        ),
        click.option(
            "--sessions",
            type=int,
            metavar="N",
            help=f"So many programs: of the trace, drawn by --seed, or made up ({MADE_UP}).",
        ),
        click.option(
            "--half",
            type=click.Choice(("all", "tuning", "reported")),
            default="all",
            show_default=True,
            help="Half of the programs, by the hash of their ids: choose parameters on one, report the other.",
        ),
        click.option(
            "--laps",
            type=int,
            default=1,
            show_default=True,
            help="Run every program so many times; repetitions share no state.",
        ),
        click.option("--tool-scale", type=float, default=1.0, show_default=True, help="Multiply gaps of tools."),
        click.option("--human-scale", type=float, default=1.0, show_default=True, help="Multiply gaps of humans."),
        click.option(
            "--max-gap",
            callback=seconds,
            metavar="TIME",
            default="5m",
            show_default=True,
            help="Cut scaled gaps here.",
        ),
    )(function)  # fmt: skip


def equipment_options(function: F) -> F:
    """What one replica is."""
    return _all(
        click.option("--model", metavar="NAME", help="Hugging Face repository or alias in templates/models."),
        click.option("--accelerator", metavar="PRESET", help="Preset in templates/accelerators."),
        click.option("--tensor", type=int, default=1, show_default=True, help="Devices of one replica."),
        click.option(
            "--cache-tokens",
            type=int,
            metavar="N",
            help="KV cache of one replica; else what --model leaves on --accelerator.",
        ),
        click.option(
            "--profile",
            metavar="NAME|FILE",
            help="How fast a replica is: sketch, MODEL@ACCELERATOR/TENSOR, or a YAML or JSON file; "
            "else derived from --model and --accelerator.",
        ),
        click.option("--max-seqs", type=int, default=256, show_default=True, help="The engine's --max-num-seqs."),
        click.option(
            "--max-batched-tokens",
            type=int,
            default=8192,
            show_default=True,
            help="The engine's --max-num-batched-tokens.",
        ),
    )(function)  # fmt: skip


def run_options(*, seeds: int) -> Callable[[F], F]:
    """How often, how long, how many at a time."""
    return _all(
        click.option(
            "--seeds", type=int, default=seeds, show_default=True, help="Simulations with other orders and arrivals."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="The first of them."),
        click.option(
            "--horizon",
            callback=seconds,
            metavar="TIME",
            help="End there; live programs are replaced until then, and over again. Without: each runs to its end.",
        ),
        click.option(
            "--warmup",
            callback=seconds,
            metavar="TIME",
            default="0s",
            show_default=True,
            help="Leave out of the figures what arrives earlier.",
        ),
        click.option(
            "--silent-ends", is_flag=True, help="Programs do not say that they are over: policies must guess."
        ),
        click.option("--routers", type=int, default=1, show_default=True, help="Each knows its own turns only."),
        click.option(
            "--scrape",
            callback=seconds,
            metavar="TIME",
            default="0s",
            show_default=True,
            help="Engines' gauges are as old as that; 0s: current.",
        ),
        click.option(
            "--hints",
            type=click.Choice(("none", "right", "half-wrong", "adversarial")),
            default="none",
            show_default=True,
            help="What clients declare of what comes next, and how much of it is true.",
        ),
        click.option("--jobs", type=int, metavar="N", help="Processes; all cores without it."),
    )  # fmt: skip
