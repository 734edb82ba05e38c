"""The container runtime of a process node: a program that forks, mounts and reaps, and decides nothing.

It is process 1 of a PID namespace and has a mount namespace of its own, so that when it ends, every process it
started and every mount it made is gone: the kernel sees to it. It ends when the agent's connection does.

One JSON document a line, both ways: `{"id", "op", ...}` is answered `{"id", "result" | "error"}`; the end of a
container or command is told as `{"exited": key, "status": n}` (128 + n for signal n, as shells and Kubernetes count).
Run as `unshare --mount --propagation=private --pid --fork --kill-child python -S -m ...runtime FOLDER AGENT_PID`.
Only the standard library, and one thread: it forks.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import syscalls
from .processes import Sandbox, StartError, run_in, start_container, start_sandbox
from .spec import ContainerSpec

__all__ = ["SOCKET", "Runtime"]

SOCKET = "runtime.sock"


class Runtime:
    """Everything that was started, by key."""

    def __init__(self, folder: Path, agent_pid: int) -> None:
        self._folder = folder
        self._agent_root = f"/proc/{agent_pid}/root"  # namespaces' files are in the agent's mount namespace
        self._scratch = folder / "scratch"
        self._proc = folder / "proc"
        self._sandboxes: dict[str, Sandbox] = {}
        self._pids: dict[str, int] = {}  # containers and commands by key
        self._keys: dict[int, str] = {}
        for at, kind in ((self._scratch, "tmpfs"), (self._proc, "proc")):
            at.mkdir()
            syscalls.mount(kind, str(at), kind)

    def handle(self, request: dict[str, Any]) -> object:
        """Carry one request out.

        Raises:
            OSError, StartError, KeyError: it could not be.
        """
        operation = getattr(self, f"do_{request['op']}")
        arguments = {k: v for k, v in request.items() if k not in ("id", "op")}
        result: object = operation(**arguments)
        return result

    def reap(self) -> Iterator[dict[str, object]]:
        """Collect what has ended; what the agent is to be told."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self._keys.pop(pid, None)
            if key is not None:
                del self._pids[key]
                self._forget_files(key)
                code = os.waitstatus_to_exitcode(status)
                yield {"exited": key, "status": code if code >= 0 else 128 - code}

    def do_sandbox(self, uid: str, netns: str, hostname: str, shm: str) -> None:
        """Start a pod's sandbox with its /dev/shm, of the size that container runtimes give."""
        self.do_tmpfs(shm, 64 * 1024 * 1024)
        self._sandboxes[uid] = start_sandbox(self._agent_root + netns, hostname, shm)

    def do_remove(self, uid: str, mounts: list[str]) -> None:
        """Take a pod's sandbox away, whose containers have ended."""
        sandbox = self._sandboxes.pop(uid, None)
        if sandbox is None:
            return
        os.kill(sandbox.pid, signal.SIGKILL)
        for target in (*mounts, sandbox.shared_memory):
            with contextlib.suppress(OSError):
                syscalls.unmount(target)

    def do_tmpfs(self, path: str, size_bytes: int | None) -> None:
        """Memory as a folder that everybody may write; half of the machine's where no size is given."""
        Path(path).mkdir(parents=True, exist_ok=True)
        options = "mode=1777" if size_bytes is None else f"mode=1777,size={size_bytes}"
        syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)

    def do_chown(self, path: str, gid: int) -> None:
        """Give a folder in the runtime's own mounts to a group, as `fsGroup` asks."""
        os.chown(path, -1, gid)
        Path(path).chmod(0o3777)

    def do_start(self, spec: dict[str, Any]) -> None:
        wanted = ContainerSpec.from_json(spec)
        scratch = self._scratch / wanted.key.replace("/", "_")
        (scratch / "root").mkdir(parents=True)
        pid = start_container(wanted, self._sandboxes[wanted.sandbox], own=self._folder, scratch=scratch)
        self._remember(wanted.key, pid)

    def do_exec(self, container: str, spec: dict[str, Any]) -> None:
        """Start a command beside a running container's own."""
        wanted = ContainerSpec.from_json(spec)
        self._remember(wanted.key, run_in(self._pids[container], wanted))

    def do_signal(self, key: str, number: int) -> None:
        """Signal one process; nothing if it has ended meanwhile."""
        if key in self._pids:
            os.kill(self._pids[key], number)

    def do_signal_all(self, key: str, number: int) -> int:
        """Signal every process of a container; how many."""
        wanted = (self._proc / str(self._pids[key]) / "ns/pid").readlink()
        reached = 0
        for entry in self._proc.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == wanted:
                    os.kill(int(entry.name), number)
                    reached += 1
        return reached

    def _remember(self, key: str, pid: int) -> None:
        self._pids[key] = pid
        self._keys[pid] = key

    def _forget_files(self, key: str) -> None:
        shutil.rmtree(self._scratch / key.replace("/", "_"), ignore_errors=True)


def serve(folder: Path, agent_pid: int) -> None:
    """Answer the one agent that connects, until it goes."""
    runtime = Runtime(folder, agent_pid)
    wakeup, waking = socket.socketpair()
    for end in (wakeup, waking):
        end.settimeout(0)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen(1)
        agent, _ = listening.accept()
    with selectors.DefaultSelector() as selector, agent:
        selector.register(agent, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        _loop(runtime, agent, wakeup, selector)


def _loop(
    runtime: Runtime, agent: socket.socket, wakeup: socket.socket, selector: selectors.BaseSelector
) -> None:
    received = b""
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if wakeup in ready:
            wakeup.recv(4096)
        if agent in ready:
            chunk = agent.recv(1 << 20)
            if not chunk:
                return
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                _send(agent, _answer(runtime, json.loads(line)))
        for message in runtime.reap():
            _send(agent, message)


def _answer(runtime: Runtime, request: dict[str, Any]) -> dict[str, object]:
    try:
        return {"id": request["id"], "result": runtime.handle(request)}
    except (OSError, StartError, KeyError) as error:
        return {"id": request["id"], "error": str(error) or type(error).__name__}


def _send(agent: socket.socket, message: dict[str, object]) -> None:
    agent.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
