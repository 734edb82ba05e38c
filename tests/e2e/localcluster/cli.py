"""Command line: `python -m tests.e2e.localcluster up | tools`."""

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Literal

import click

from . import gomod, tools
from .cluster import Cluster
from .controlplane import ControlPlane, Options
from .credentials import write_private
from .nodes import DEFAULT_NODES, numbered
from .process import StartFailed
from .providers import open_cluster
from .thirdparty import CRD_SETS

__all__ = ["main"]

_SETS = ", ".join(CRD_SETS)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real Kubernetes control plane on this machine, without containers.

    Pods are scheduled onto fake nodes and become Ready; nothing runs in them.
    """


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(tools.TOOLS)))
def build_tools(names: tuple[str, ...]) -> None:
    """Find or build the programs (every one, or those named), and print where they are."""
    try:
        found = tools.ensure_all(names or tuple(tools.TOOLS))
    except gomod.BuildFailed as error:
        raise click.ClickException(str(error)) from error
    for name, path in found.items():
        click.echo(f"{name:24} {path}")


main.add_command(build_tools, name="tools")


@main.command()
@click.option(
    "--kubeconfig-out",
    type=click.Path(path_type=Path),
    help="Also write the kubeconfig here (must not exist).",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 5000),
    help=f"Fake nodes, all presets in turn.  [default: {len(DEFAULT_NODES)}]",
)
@click.option(
    "--crd-set",
    "sets",
    multiple=True,
    type=click.Choice(list(CRD_SETS)),
    help="Third-party CRDs to install.  [default: all]",
)
@click.option("--no-crds", is_flag=True, help="Install no third-party CRDs.")
@click.option(
    "--process-node",
    is_flag=True,
    help="Also a node whose pods run as processes (needs root); fake nodes only if --nodes is given.",
)
@click.option(
    "--engine",
    type=click.Choice(["sim", "vllm"]),
    default="sim",
    show_default=True,
    help="What engine images run on the process node: the simulator or real vLLM.",
)
def up(
    *,
    kubeconfig_out: Path | None,
    nodes: int | None,
    sets: tuple[str, ...],
    no_crds: bool,
    process_node: bool,
    engine: Literal["sim", "vllm"],
) -> None:
    """Start a cluster and keep it until Ctrl-C or SIGTERM; then nothing is left of it."""
    signal.signal(signal.SIGTERM, _leave)
    if kubeconfig_out is not None and kubeconfig_out.exists():
        raise click.ClickException(f"{kubeconfig_out} exists; name a new file, it will be removed at the end")
    fake_by_default = () if process_node else DEFAULT_NODES
    options = Options(
        nodes=fake_by_default if nodes is None else numbered(nodes),
        crds=() if no_crds else sets or tuple(CRD_SETS),
        process_nodes=process_node,
    )
    started_s = time.monotonic()
    try:
        with ExitStack() as stack:
            cluster = stack.enter_context(open_cluster(options, "own" if process_node else None))
            if process_node:
                _add_process_node(stack, cluster, engine)
            click.echo(f"ready after {time.monotonic() - started_s:.1f} s")
            _keep(cluster, kubeconfig_out)
    except (gomod.BuildFailed, StartFailed) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped; nothing is left")


def _add_process_node(stack: ExitStack, cluster: Cluster, engine: Literal["sim", "vllm"]) -> None:
    # Late: who wants no such node needs none of what it needs.
    from tests.e2e.processnode.network import Network, unavailable
    from tests.e2e.processnode.node import ProcessNode

    reason = unavailable()
    if reason is not None or not isinstance(cluster, ControlPlane):
        raise click.ClickException(f"no process node: {reason}")
    network = stack.enter_context(Network(cluster))
    node = stack.enter_context(ProcessNode(cluster, network, engine=engine))
    click.echo(f"process node {node.name}: logs of its pods are in {node.folder}/logs")


def _keep(cluster: Cluster, copy: Path | None) -> None:
    path = cluster.kubeconfig
    try:
        if copy is not None:
            path = write_private(copy.absolute(), cluster.kubeconfig.read_text())
        click.echo(_usage(cluster, path))
        signal.pause()
    finally:
        if copy is not None:
            copy.unlink(missing_ok=True)


def _usage(cluster: Cluster, kubeconfig: Path) -> str:
    logs = f"\n  logs: {cluster.folder}/*.log" if isinstance(cluster, ControlPlane) else ""
    return (
        f"  export KUBECONFIG={kubeconfig}\n"
        f"  alias kubectl={cluster.kubectl_path}\n"
        f"  kubectl get nodes{logs}\n"
        "Ctrl-C stops it."
    )


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
