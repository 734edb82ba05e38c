"""Child processes that leave nothing behind, however their parent ends."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Process", "StartFailed", "Workplace", "free_ports", "wait_until"]

_POLL_S = 0.05


class StartFailed(RuntimeError):
    """A process ended early or was not ready in time; the message ends with the tail of its log."""


class Process:
    """One running child, in a process group of its own, with its output in a file."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def tail(self, n_bytes: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-n_bytes:].decode(errors="replace")

    def kill(self) -> None:
        """End the whole group at once; nothing here keeps data worth a graceful stop."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def terminate(self, grace_s: float) -> None:
        """Ask it to end, wait up to `grace_s` seconds, then `kill`."""
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_s)
        self.kill()


class Workplace:
    """A private temporary folder and the processes started from it; both gone at the end.

    A watchdog process does the same when this process dies without leaving the `with` block.
    """

    def __init__(self, prefix: str = "agentic-cluster-") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))  # mode 0700: it holds tokens
        self.processes: dict[str, Process] = {}
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("watchdog.py"))],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C on the terminal is for us, not for it
            text=True,
        )
        self._tell(f"dir {self.folder}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a command under a name; a second start of the same name appends to the same log."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, cwd=self.folder, env=self._environment(env),
            )  # fmt: skip
        self._tell(f"+{popen.pid}")
        self.processes[name] = Process(name, popen, log)
        return self.processes[name]

    def stop(self, name: str, *, grace_s: float = 0.0) -> None:
        """End one process; with a grace period it may finish what it does."""
        process = self.processes.pop(name)
        if grace_s > 0:
            process.terminate(grace_s)
        process.kill()
        self._tell(f"-{process.pid}")

    def own_namespace(self, name: str) -> None:
        """Have this network namespace emptied of processes and removed if this process dies."""
        self._tell(f"netns+{name}")

    def disown_namespace(self, name: str) -> None:
        """It has been removed."""
        self._tell(f"netns-{name}")

    def close(self) -> None:
        """Kill everything, newest first, and remove the folder. A second call does nothing."""
        for name in reversed(list(self.processes)):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._watchdog.stdin is not None and not self._watchdog.stdin.closed:
            self._watchdog.stdin.close()
        self._watchdog.wait()

    def _tell(self, line: str) -> None:
        if self._watchdog.stdin is None:
            raise RuntimeError("the watchdog has no pipe")
        self._watchdog.stdin.write(line + "\n")
        self._watchdog.stdin.flush()

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        # HOME: these programs read ~/.kube and ~/.kwok, which must not steer a test.
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), **(extra or {})}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, held together while choosing so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, what: str, watch: Sequence[Process] = ()
) -> None:
    """Poll until `condition()` holds.

    Raises:
        StartFailed: a watched process ended, or `timeout_s` seconds passed.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        for process in watch:
            if not process.alive:
                raise StartFailed(f"{process.name} ended while waiting for {what}:\n{process.tail()}")
        if time.monotonic() > deadline_s:
            tails = "".join(f"\n--- {p.name}\n{p.tail()}" for p in watch)
            raise StartFailed(f"{what}: not within {timeout_s:g} s{tails}")
        time.sleep(_POLL_S)
