"""router.keeper: what ends or hangs is started again, and nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentic_serving.router.keeper import Keeper, Stop, answers

#: Waits for its line, writes one for each start, then does what its argument says.
CHILD = """
import os, signal, sys, time
if not sys.stdin.readline():
    sys.exit(0)
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
if sys.argv[2] == "end":
    sys.exit(3)
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pause()
"""


def command(starts: Path, does: str) -> tuple[str, ...]:
    return (sys.executable, "-c", CHILD, str(starts), does)


def scripted(answers: Iterator[bool]) -> bool:
    """The next answer; the keeper is stopped when there is none left."""
    try:
        return next(answers)
    except StopIteration:
        raise Stop from None


def keep(starts: Path, does: str, said: list[bool]) -> list[int]:
    """The processes that a keeper started until its questions had these answers."""
    script = iter(said)
    keeper = Keeper(
        command=command(starts, does),
        alive=lambda: scripted(script),
        beat_s=0.3,
        start_patience=3,
        patience=2,
        least_s=0.01,
        most_s=0.01,
        grace_s=0.1,
    )
    assert keeper.run() == 0
    return [int(line) for line in starts.read_text().split()]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("said", "starts"),
    [
        ([True, True, True, True], 1),
        ([True, False, True, False], 1),
        ([True, False, False, True], 2),
        ([False, False, True], 1),
        ([False, False, False, True], 2),
    ],
    ids=["answers", "misses one at a time", "hangs", "starts slowly", "never starts"],
)
def test_what_hangs_is_killed_and_started_again(tmp_path: Path, said: list[bool], starts: int) -> None:
    pids = keep(tmp_path / "starts", "wait", said)
    assert len(pids) == starts
    assert all(map(gone, pids))


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    (pid,) = keep(tmp_path / "starts", "deaf", [True])
    assert gone(pid)


def test_whoever_is_next_is_ready_before_it_is_needed(tmp_path: Path) -> None:
    """Importing everything takes most of a start."""
    starts, ready = tmp_path / "starts", tmp_path / "ready"
    noted = f"open({str(ready)!r}, 'a').write(f'{{os.getpid()}}\\n')"
    child = CHILD.replace("if not sys.stdin", f"{noted}\nif not sys.stdin", 1)
    there: list[str] = []

    def alive() -> bool:
        if there:
            raise Stop
        if len(ready.read_text().split()) == 2:
            there.extend(ready.read_text().split())
            os.kill(int(there[0]), signal.SIGKILL)
        return True

    command = (sys.executable, "-c", child, str(starts), "wait")
    Keeper(command=command, alive=alive, beat_s=0.1, least_s=0.01, grace_s=0.1).run()
    assert starts.read_text().split() == there


@pytest.mark.parametrize(("said", "code"), [(b"begin\n", 2), (b"", 0)], ids=["told", "its keeper is gone"])
def test_a_standby_begins_when_it_is_told_and_ends_with_its_keeper(said: bytes, code: int) -> None:
    """There is no configuration, so what begins ends with 2."""
    command = [sys.executable, "-m", "agentic_serving", "scheduler", "run", "--standby", "--config=/none"]
    done = subprocess.run(command, input=said, capture_output=True, check=False, timeout=60)
    assert (done.returncode, b"/none" in done.stderr) == (code, code == 2), done.stderr


def test_what_ends_is_started_again_until_we_are_told_to_end(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    os.mkfifo(starts)
    keeper = subprocess.Popen(
        [sys.executable, "-m", "agentic_serving.router.keeper", *command(starts, "end")],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        assert starts.read_text().strip()  # blocks until a child has written
    keeper.send_signal(signal.SIGTERM)
    reader = os.open(
        starts, os.O_RDONLY | os.O_NONBLOCK
    )  # a child that is about to write is not kept waiting
    _, said = keeper.communicate(timeout=30)
    os.close(reader)
    assert keeper.returncode == 0
    assert "the scheduler ended with 3" in said


def test_whoever_speaks_http_is_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not answers(port, timeout_s=0.05)  # it hangs: the connection is taken by the kernel alone
    assert not answers(port, timeout_s=0.05)
