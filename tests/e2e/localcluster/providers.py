"""Which cluster to use: the one given, else kind where Docker works, else our own control plane.

For the demo and for tests that any cluster can serve. Tests that count writes or stop the API server need
`ControlPlane` itself.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from . import commands, tools
from .cluster import Cluster
from .controlplane import ControlPlane, Options
from .nodes import manifest
from .process import Workplace

__all__ = ["GIVEN", "Provider", "choose", "open_cluster"]

# Names the administrator's kubeconfig of a running cluster, for a person who has one to spare.
GIVEN = "AGENTIC_E2E_KUBECONFIG"

Provider = Literal["given", "kind", "own"]

_PROBE_TIMEOUT_S = 20.0  # `docker info` waits for its daemon
_KIND_TIMEOUT_S = 600.0  # pulls a node image of 1 GB at its first run


def choose() -> Provider:
    """Which kind of cluster `open_cluster` will use."""
    if os.environ.get(GIVEN):
        return "given"
    if _works("kind", "version") and _works("docker", "info"):
        return "kind"
    return "own"


@contextmanager
def open_cluster(options: Options | None = None, provider: Provider | None = None) -> Iterator[Cluster]:
    """A ready cluster with the options' CRDs and, except on a given one, its fake nodes."""
    wanted = options or Options()
    chosen = provider or choose()
    if chosen == "own":
        with ControlPlane(wanted) as own:
            yield own
        return
    with Workplace() as place:
        opened = _given(place) if chosen == "given" else _kind(place, wanted)
        with opened as cluster:
            if wanted.crds:
                cluster.install_third_party(*wanted.crds)
            yield cluster


@contextmanager
def _given(place: Workplace) -> Iterator[Cluster]:
    kubeconfig = Path(os.environ[GIVEN]).expanduser()
    _say(f"using the cluster of {kubeconfig} ({GIVEN})")
    yield Cluster(kubeconfig=kubeconfig, kubectl=_kubectl(), folder=place.folder)


@contextmanager
def _kind(place: Workplace, options: Options) -> Iterator[Cluster]:
    name = f"agentic-{secrets.token_hex(4)}"
    kubeconfig = place.folder / "admin.kubeconfig"
    _say(f"creating kind cluster {name}; if this process is killed: kind delete cluster --name {name}")
    try:
        _kind_command("create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "120s")
        cluster = Cluster(kubeconfig=kubeconfig, kubectl=_kubectl(), folder=place.folder)
        if options.pods:
            _fake_nodes(cluster, place, options)
        yield cluster
    finally:
        _kind_command("delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))


def _fake_nodes(cluster: Cluster, place: Workplace, options: Options) -> None:
    # The container that runs the control plane is a node too; our pods' images are not for it.
    cluster.kubectl("taint", "nodes", "--all", "node-role.kubernetes.io/control-plane=:NoSchedule")
    place.start("kwok", commands.kwok_beside_real_nodes(tools.ensure("kwok"), cluster.kubeconfig))
    cluster.apply([manifest(spec) for spec in options.nodes])
    names = [f"node/{spec['name']}" for spec in options.nodes]
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *names)


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else tools.ensure("kubectl")


def _kind_command(*args: str) -> None:
    subprocess.run(["kind", *args], check=True, timeout=_KIND_TIMEOUT_S)


def _works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _say(text: str) -> None:
    print(f"localcluster: {text}", file=sys.stderr, flush=True)
