"""The first process of the scheduler's container: starts the scheduler again when it ends, and when it hangs.

A container that is not running is not ready, and a pod with such a container leaves its Service: with one router pod a crash
of the scheduler would end all service, though Envoy goes on without it within a second. So the container keeps running,
and this process, which does nothing else and imports next to nothing, is what does not crash.

Beside the scheduler that runs it keeps a spare one, which has imported everything and waits: importing takes most of a start.

    python -m agentic_serving.router.keeper COMMAND...

COMMAND is run with `--standby`: it gets ready, waits for a line on its standard input, and begins; at the input's end it ends.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

__all__ = ["Keeper", "Stop", "answers", "main"]

#: Where the scheduler tells that it is alive (`router/web.py`), and the variable that says otherwise (`router/settings.py`).
PORT, PORT_VARIABLE = 9005, "AGENTIC_SERVING_HTTP_PORT"


class Stop(Exception):
    """We were asked to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Keeps one command running. Times in seconds.

    Attributes:
        alive: whether it answers now.
        beat_s: between two questions.
        patience: questions in a row without an answer before it is killed; with beats and time limits about 15 s, far above
            the longest step of its event loop.
        start_patience: the same before its first answer: about a minute, for a start on a busy machine.
        least_s, most_s: before it is started again: doubled each time, from the beginning after it has run for `steady_s`.
        grace_s: for its own end, below what the picker beside it takes.
    """

    command: Sequence[str]
    alive: Callable[[], bool]
    beat_s: float = 3.0
    patience: int = 3
    start_patience: int = 20
    least_s: float = 0.1
    most_s: float = 10.0
    steady_s: float = 60.0
    grace_s: float = 10.0

    def run(self) -> int:
        """Until `Stop` is raised, by a signal's handler. The exit code."""
        wait_s, children = self.least_s, _Children(self.command)
        try:
            while True:
                started_s = time.monotonic()
                why = self._watch(children)
                ran_s = time.monotonic() - started_s
                wait_s = self.least_s if ran_s >= self.steady_s else wait_s
                _tell(why, again_in_s=wait_s, ran_s=round(ran_s, 1))
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, self.most_s)
        except Stop:
            children.end(self.grace_s)
            return 0

    def _watch(self, children: "_Children") -> str:
        """Let one begin and wait for its end, or make it end. Why it did."""
        child = children.begin()
        misses, patience = 0, self.start_patience
        while misses < patience:
            try:
                return f"the scheduler ended with {child.wait(self.beat_s)}"
            except subprocess.TimeoutExpired:
                pass
            if self.alive():
                misses, patience = 0, self.patience
                children.prepare()
            else:
                misses += 1
        child.kill()
        child.wait()
        return "the scheduler did not answer and was killed"


class _Children:
    """The process that runs, and the one that would be next."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._running: subprocess.Popen[bytes] | None = None
        self._spare: subprocess.Popen[bytes] | None = None

    def begin(self) -> subprocess.Popen[bytes]:
        """The spare one begins; a new one, if there is none or it has ended."""
        self._running, self._spare = self.prepare(), None
        _close(self._running, b"begin\n")
        return self._running

    def prepare(self) -> subprocess.Popen[bytes]:
        """See that there is a spare one."""
        if self._spare is not None and self._spare.poll() is not None:
            _close(self._spare)
            self._spare = None
        if self._spare is None:
            self._spare = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        return self._spare

    def end(self, grace_s: float) -> None:
        """Both end: the one that runs when it is asked to, or at last when it is made to."""
        for child in (self._spare, self._running):
            if child is None:
                continue
            _close(child)
            child.terminate()
            try:
                child.wait(grace_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _close(child: subprocess.Popen[bytes], last: bytes = b"") -> None:
    """End a child's standard input. That the child has ended just now is found by waiting for it."""
    if child.stdin is not None and not child.stdin.closed:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(last)
            child.stdin.close()


def answers(port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether an HTTP server answers on this port of ours, whatever it says."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def main(command: Sequence[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    port = int(os.environ.get(PORT_VARIABLE, PORT))
    return Keeper(command=(*command, "--standby"), alive=lambda: answers(port)).run()


def _stop(_: int, __: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise Stop


def _tell(message: str, **more: object) -> None:
    """As the scheduler's own log: a line of JSON."""
    sys.stderr.write(json.dumps({"level": "WARNING", "logger": __name__, "message": message, **more}) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
