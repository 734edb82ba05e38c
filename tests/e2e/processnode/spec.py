"""What the agent asks the runtime to start: plain values that cross the socket as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ContainerSpec", "Identity", "Mount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the node at a path of the container."""

    source: str  # resolved: no symbolic link in it
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process runs as, and what it may do."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: tuple[int, ...] = ()  # the bounding set
    no_new_privileges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One run of one container."""

    key: str  # unique among all runs of the node
    sandbox: str  # uid of the pod, whose sandbox must be there
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    identity: Identity = Identity()
    read_only_root: bool = False
    mounts: tuple[Mount, ...] = ()
    passable: tuple[str, ...] = ()  # folders that must be reachable for every user
    log: str = ""  # file that gets stdout and stderr

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(given: dict[str, Any]) -> "ContainerSpec":
        identity = given["identity"]
        return ContainerSpec(
            **{
                **given,
                "argv": tuple(given["argv"]),
                "mounts": tuple(Mount(**mount) for mount in given["mounts"]),
                "passable": tuple(given["passable"]),
                "identity": Identity(
                    **{
                        **identity,
                        "groups": tuple(identity["groups"]),
                        "capabilities": tuple(identity["capabilities"]),
                    }
                ),
            }
        )
