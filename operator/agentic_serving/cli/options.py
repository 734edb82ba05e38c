"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from agentic_serving.cli.output import FORMATS

__all__ = ["cluster_options", "files", "output"]

F = TypeVar("F", bound=Callable[..., Any])


def files(function: F) -> F:
    """PATHS, and how to read them."""
    function = click.option("--stack", metavar="NAME", help="Only this AgenticServingStack.")(function)
    function = click.option(
        "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
    )(function)
    return click.argument("paths", nargs=-1, required=True)(function)


def output(*, default: str = "text") -> Callable[[F], F]:
    """-o text|yaml|json."""
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default=default, show_default=True, help="How to print."
    )


def cluster_options(function: F) -> F:
    """Which cluster: as kubectl takes it."""
    function = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")(function)
    return click.option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig file; $KUBECONFIG, the pod's own account or ~/.kube/config without it.",
    )(function)
