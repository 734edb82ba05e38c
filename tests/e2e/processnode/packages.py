"""Programs of the distribution that the process node needs: found on PATH, else fetched with apt."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.localcluster import tools

__all__ = ["Missing", "ensure", "unpacked", "unpacked_with"]

# Program to Debian package.
PACKAGES = {"nft": "nftables"}

_LOCK = Path("/run/lock/agentic-serving-apt.lock")
_TIMEOUT_S = 600.0


class Missing(RuntimeError):
    """A program is not there and cannot be installed; the message says what to do."""


def ensure(program: str) -> Path:
    """The program's path, after installing its package if need be (nftables: 5 s).

    Raises:
        Missing: it cannot be had.
    """
    if there := _which(program):
        return there
    package = PACKAGES[program]
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt does not wait for another apt
        found = _which(program) or _install(program, package)
    if found is None:
        raise Missing(
            f"{program} is not on PATH: install your distribution's package of it (Debian: {package})"
        )
    return found


def unpacked(program: str) -> Path:
    """A program that is its package's only needed file: from PATH, else from the package, unpacked into our cache.

    Not installed, as that would start a service of the machine.

    Raises:
        Missing: it cannot be had.
    """
    if there := _which(program):
        return there
    goal = tools.cache_dir() / f"{program}-deb"
    goal.mkdir(parents=True, exist_ok=True)
    with (goal.parent / f"{program}-deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = goal / "usr" / "bin" / program
        if not found.is_file():
            _unpack(program, goal)
    return found


def unpacked_with(program: str, *packages: str) -> tuple[Path, Path]:
    """A program that needs more than one package, all unpacked into one folder; it, and where its libraries are.

    Raises:
        Missing: it cannot be had.
    """
    goal = tools.cache_dir() / f"{program}-deb"
    goal.mkdir(parents=True, exist_ok=True)
    found = goal / "usr" / "bin" / program
    with (goal.parent / f"{program}-deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (goal / "whole").is_file():
            for package in packages:
                _unpack(package, goal)
            (goal / "whole").touch()
    (libraries,) = (goal / "usr" / "lib").glob("*-linux-gnu")
    return found, libraries


def _unpack(program: str, goal: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Missing(f"{program} is not on PATH, and this is no Debian: install it from your distribution")
    print(f"processnode: fetching {program} with apt-get into {goal}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="agentic-deb-") as folder:
        Path(folder).chmod(0o755)  # apt drops root to download
        try:
            _apt("download", "-qq", program, folder=folder)
        except Missing:
            _apt("update", "-qq", folder=folder)
            _apt("download", "-qq", program, folder=folder)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(goal)], check=True, timeout=_TIMEOUT_S)


def _install(program: str, package: str) -> Path | None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    print(f"processnode: installing {package} with apt-get", file=sys.stderr, flush=True)
    _apt("update", "-qq")
    _apt("install", "-y", "-qq", "--no-install-recommends", package)
    return _which(program)


def _apt(*arguments: str, folder: str | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments], env=environment, cwd=folder,
        check=False, capture_output=True, text=True, timeout=_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise Missing(f"apt-get {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")


def _which(program: str) -> Path | None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(found) if found else None
