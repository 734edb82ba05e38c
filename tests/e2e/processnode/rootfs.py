"""The file system that a container sees: an overlay over the host's, its volumes, and its own /dev, /proc, /sys.

Runs in the container's first process, after the fork and before the program. Only the standard library.
Not modelled: an image's own files. Every image's programs are found on the host.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import syscalls
from .spec import ContainerSpec, Mount

__all__ = ["HOST", "enter"]

#: Where the host's file system is while the container's is put together.
HOST = "/.host"

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}  # fmt: skip
# File systems of the kernel's, which a container gets anew, and the container runtime's own.
_NOT_FILES = frozenset(
    {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "nsfs", "securityfs", "debugfs",
     "tracefs", "bpf", "pstore", "configfs", "fusectl", "autofs", "binfmt_misc", "hugetlbfs", "rpc_pipefs"}
)  # fmt: skip
_APART = ("/proc", "/sys", "/dev", "/run")


def enter(spec: ContainerSpec, *, own: Path, scratch: Path, shared_memory: str) -> None:
    """Make the container's file system and go into it.

    Args:
        own: the node's folder; what is mounted below it is no file of the host.
        scratch: an empty folder on a file system other than the host's root: what the container writes lands there.
        shared_memory: the pod's /dev/shm.

    Raises:
        OSError: the kernel refused a mount.
    """
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    root = scratch / "root"
    overlays = [*_overlays(own, scratch, root)]
    (root / HOST[1:]).mkdir(exist_ok=True)
    os.chdir(root)
    syscalls.pivot_root(".", HOST[1:])
    os.chdir("/")
    _kernel_file_systems(shared_memory)
    for folder in spec.passable:
        _make_passable(Path(folder))
    for mount in sorted(spec.mounts, key=lambda m: m.target.count("/")):
        _bind(mount, spec.passable)
    Path(spec.cwd).mkdir(parents=True, exist_ok=True)
    syscalls.unmount(HOST)
    Path(HOST).rmdir()
    if spec.read_only_root:
        for target in reversed(overlays):
            _read_only(target)


def _overlays(own: Path, scratch: Path, root: Path) -> Iterator[str]:
    """Lay the container's own layer over the host's root and over each file system mounted below it."""
    for i, target in enumerate(_mounted_below_root(str(own))):
        layer = scratch / f"layer-{i}"
        for name in ("upper", "work"):
            (layer / name).mkdir(parents=True)
        (layer / "upper").chmod(stat.S_IMODE(Path(target).stat().st_mode))
        at = root / target[1:]
        at.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={target},upperdir={layer}/upper,workdir={layer}/work"
        syscalls.mount("overlay", str(at), "overlay", 0, options)
        yield target


def _mounted_below_root(own: str) -> list[str]:
    """Folders of the host that hold files, the root first; see mountinfo in proc(5)."""
    found = ["/"]
    for line in Path("/proc/thread-self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        target, kind = before.split()[4].encode().decode("unicode_escape"), after.split()[0]
        skipped = target == "/" or target.startswith((*_APART, own))
        unsayable = "," in target or ":" in target  # they separate an overlay's options
        if not skipped and not unsayable and kind not in _NOT_FILES and Path(target).is_dir():
            found.append(target)
    return sorted(set(found))


def _kernel_file_systems(shared_memory: str) -> None:
    plain = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    _folder("/proc")
    syscalls.mount("proc", "/proc", "proc", plain)
    _folder("/sys")
    syscalls.mount("sysfs", "/sys", "sysfs", plain | syscalls.MS_RDONLY)
    if Path(f"{HOST}/sys/fs/cgroup").is_dir():
        syscalls.mount(f"{HOST}/sys/fs/cgroup", "/sys/fs/cgroup", "", syscalls.MS_BIND | syscalls.MS_REC)
    _folder("/dev")
    syscalls.mount("tmpfs", "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755,size=65536k")
    for name in _DEVICES:
        Path("/dev", name).touch()
        syscalls.mount(f"{HOST}/dev/{name}", f"/dev/{name}", "", syscalls.MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        Path("/dev", name).symlink_to(target)
    for name in ("pts", "shm", "mqueue"):
        Path("/dev", name).mkdir()
    syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620")
    syscalls.mount("mqueue", "/dev/mqueue", "mqueue", plain)
    syscalls.mount(HOST + shared_memory, "/dev/shm", "", syscalls.MS_BIND)


def _folder(path: str) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)


def _make_passable(folder: Path) -> None:
    """Let every user through to a folder; in the container's own layer, so the host's stays as it is."""
    everybody = stat.S_IXGRP | stat.S_IXOTH  # who is of the owner's group counts as that
    for at in (*reversed(folder.parents), folder):
        if at.is_dir() and at.stat().st_mode & everybody != everybody:
            at.chmod(stat.S_IMODE(at.stat().st_mode) | everybody)


def _bind(mount: Mount, programs: Iterable[str]) -> None:
    """Mount a volume. A folder of programs that it would hide, such as a checkout below /tmp, shows through it."""
    source, target = Path(HOST + mount.source), Path(mount.target)
    if not source.exists():
        _make_like_parent(source)
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.unlink(missing_ok=True)  # a link to something that only the host has
            target.touch()
    syscalls.mount(str(source), str(target), "", syscalls.MS_BIND | syscalls.MS_REC)
    if mount.read_only:
        _read_only(str(target))
        return
    for folder in programs:
        hidden = Path(folder).is_relative_to(target) and not Path(folder).exists()
        if hidden and Path(HOST + folder).is_dir():
            Path(folder).mkdir(parents=True)
            syscalls.mount(HOST + folder, folder, "", syscalls.MS_BIND | syscalls.MS_REC)
            _read_only(folder)


def _make_like_parent(folder: Path) -> None:
    """A `subPath` that is not there yet becomes a folder with the volume's permissions."""
    if not folder.parent.exists():
        _make_like_parent(folder.parent)
    parent = folder.parent.stat()
    folder.mkdir()
    os.chown(folder, parent.st_uid, parent.st_gid)
    folder.chmod(stat.S_IMODE(parent.st_mode))


def _read_only(target: str) -> None:
    syscalls.mount("", target, "", syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
