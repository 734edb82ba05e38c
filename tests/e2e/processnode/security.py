"""Who a container runs as. Pure.

Sources: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/; the capabilities that a container
has by default are containerd's (oci/spec.go, defaultUnixCaps); numbers from linux/capability.h.
"""

from collections.abc import Mapping
from typing import Any

from .spec import Identity

__all__ = ["Refused", "identity"]

_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_DEFAULT = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
     "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}
)  # fmt: skip


class Refused(RuntimeError):
    """The container must not be started like this."""


def identity(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Identity:
    """The container's own security context over the pod's; root where neither names a user.

    Raises:
        Refused: it must not run as root and would.
    """
    of_pod = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    merged = {**of_pod, **own}
    uid = merged.get("runAsUser", 0)
    if merged.get("runAsNonRoot") and uid == 0:
        raise Refused("container has runAsNonRoot and image will run as root")
    groups = {*of_pod.get("supplementalGroups", ())} | ({of_pod["fsGroup"]} if "fsGroup" in of_pod else set())
    return Identity(
        uid=uid,
        gid=merged.get("runAsGroup", 0),
        groups=tuple(sorted(groups)),
        capabilities=_capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
    )


def _capabilities(change: Mapping[str, Any]) -> tuple[int, ...]:
    dropped = {name.upper().removeprefix("CAP_") for name in change.get("drop", ())}
    added = {name.upper().removeprefix("CAP_") for name in change.get("add", ())}
    kept = set() if "ALL" in dropped else _DEFAULT - dropped
    kept |= set(_NAMES) if "ALL" in added else added
    return tuple(number for number, name in enumerate(_NAMES) if name in kept)
