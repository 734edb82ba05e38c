"""From a container of a pod to what the runtime starts."""

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .context import NodeContext
from .env import PodContext, environment, service_variables
from .expand import expand
from .images import Program
from .network import PodNet
from .security import identity
from .spec import ContainerSpec, Mount
from .volumes import PodVolumes

__all__ = ["TERMINATION_LOG", "NoCommand", "PodParts", "container_spec", "has_probe", "hostname"]

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOT = Path(__file__).parents[3]
TERMINATION_LOG = "/dev/termination-log"


class NoCommand(RuntimeError):
    """Neither the container nor its image says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodParts:
    """What a pod has before its first container."""

    node: NodeContext
    context: PodContext
    net: PodNet
    volumes: PodVolumes


def has_probe(container: Mapping[str, Any], kind: str) -> bool:
    return bool(container.get(f"{kind}Probe"))


def container_spec(
    parts: PodParts,
    container: Mapping[str, Any],
    program: Program,
    *,
    key: str,
    log: Path,
    termination_log: Path,
) -> ContainerSpec:
    """Everything about one run of a container.

    Raises:
        Missing: something it refers to is not there.
        Refused: its security context forbids it.
        NoCommand: there is nothing to run.
    """
    spec = parts.context.pod["spec"]
    who = identity(parts.context.pod, container)
    env = _environment(parts, container, program, uid=who.uid)
    written = [*(container.get("command") or program.entrypoint), *(container.get("args") or ())]
    if not written:
        raise NoCommand(f"no command specified for image {container['image']}")
    termination = Mount(
        source=str(termination_log), target=container.get("terminationMessagePath") or TERMINATION_LOG
    )
    return ContainerSpec(
        key=key,
        sandbox=parts.context.pod["metadata"]["uid"],
        argv=tuple(expand(word, env) for word in written),
        env=env,
        cwd=container.get("workingDir") or "/",
        identity=who,
        read_only_root=bool((container.get("securityContext") or {}).get("readOnlyRootFilesystem")),
        mounts=(
            Mount(source=str(parts.net.hosts), target="/etc/hosts", read_only=True),
            Mount(source=str(parts.net.resolv_conf), target="/etc/resolv.conf", read_only=True),
            Mount(source=_hostname_file(log.parent, spec, parts), target="/etc/hostname", read_only=True),
            termination,
            *parts.volumes.mounts(container, env),
        ),
        passable=_passable((*program.path, Path(written[0]).parent), tuple(program.env.values())),
        log=str(log),
    )


def hostname(pod: Mapping[str, Any]) -> str:
    """A pod's host name: at most 63 characters of its own name, as a kubelet makes it."""
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def _hostname_file(folder: Path, spec: Mapping[str, Any], parts: PodParts) -> str:
    at = folder / "hostname"
    if not at.exists():
        at.write_text(hostname(parts.context.pod) + "\n")
        at.chmod(0o644)
    return str(at)


def _environment(
    parts: PodParts, container: Mapping[str, Any], program: Program, *, uid: int
) -> dict[str, str]:
    pod, network = parts.context.pod, parts.node.network
    namespace = pod["metadata"]["namespace"]
    services = service_variables(
        parts.node.of_namespace("services", namespace),
        host=network.service_host,
        port=network.service_port,
        enabled=pod["spec"].get("enableServiceLinks", True),
    )
    image = {
        "PATH": _SYSTEM_PATH,
        "HOSTNAME": hostname(pod),
        "HOME": "/root" if uid == 0 else "/",
        **program.env,
        **parts.node.env,
    }
    env = environment(container, parts.context, image=image, services=services)
    return {**env, "PATH": ":".join([*map(str, program.path), env["PATH"]])}


@functools.lru_cache
def _passable(path: tuple[Path, ...], settings: tuple[str, ...]) -> tuple[str, ...]:
    """Folders that a program needs, which a user's home may hide: its own, Python's, those in its image's settings."""
    named = [Path(word) for value in settings for word in value.split(":") if word.startswith("/")]
    wanted = {_ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent}
    wanted |= {*path, *named}
    for folder in path:
        wanted |= {entry.resolve().parent for entry in folder.iterdir()} if folder.is_dir() else set()
    return tuple(sorted({str(at) for at in wanted} | {str(at.resolve()) for at in wanted}))
