"""The first process of the scheduler's container: starts the scheduler again when it ends, and when it hangs.

A container that is not running is not ready, and a pod with such a container leaves its Service: with one router pod a crash
of the scheduler would end all service, though Envoy goes on without it within a second. So the container keeps running,
and this process, which does nothing else and imports next to nothing, is what does not crash.

    python -m agentic_serving.router.keeper COMMAND...
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

__all__ = ["Keeper", "Stop", "answers", "main"]

#: Where the scheduler tells that it is alive (`router/web.py`).
ADDRESS = ("127.0.0.1", 9005)


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
        wait_s = self.least_s
        while True:
            started_s = time.monotonic()
            child = subprocess.Popen(self.command)
            try:
                why = self._watch(child)
                ran_s = time.monotonic() - started_s
                wait_s = self.least_s if ran_s >= self.steady_s else wait_s
                _tell(why, again_in_s=wait_s, ran_s=round(ran_s, 1))
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, self.most_s)
            except Stop:
                return self._end(child)

    def _watch(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for its end, or make it end. Why it did."""
        misses, patience = 0, self.start_patience
        while misses < patience:
            try:
                return f"the scheduler ended with {child.wait(self.beat_s)}"
            except subprocess.TimeoutExpired:
                pass
            if self.alive():
                misses, patience = 0, self.patience
            else:
                misses += 1
        child.kill()
        child.wait()
        return "the scheduler did not answer and was killed"

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        child.terminate()
        try:
            child.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        return 0


def answers(address: tuple[str, int] = ADDRESS, *, timeout_s: float = 2.0) -> bool:
    """Whether an HTTP server answers there, whatever it says."""
    try:
        with socket.create_connection(address, timeout_s) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def main(command: Sequence[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    return Keeper(command=command, alive=answers).run()


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
