"""Operators that start in milliseconds: a process that has imported everything forks one for each start.

What a restart by hand would cost (2 to 3 s of imports) makes killing an operator at each of its API calls too slow to
do. Each operator is a process of its own, killed by SIGKILL like any other; it shares with the next one only what was
imported and read from the repository, never anything learnt from a cluster.

The server reads a JSON object per line (`{"settings": {...}, "log": PATH}` starts an operator, `{"wait": PID}` waits
for its end) and answers each with a line: the process id, or the exit status as `os.waitstatus_to_exitcode` gives it.
Everything ends with its standard input.
"""

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve() -> None:
    """Until the end of the input; then every operator still running dies with the server."""
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        print(_start(asked) if "settings" in asked else _wait(asked["wait"]), flush=True)


def warm_up() -> None:
    """Import what an operator imports, and read templates and tables."""
    from agentic_serving.api.stack import AgenticServingStack
    from agentic_serving.api.validate import parse
    from agentic_serving.controller import handlers, main
    from agentic_serving.render.inputs import RenderInputs
    from agentic_serving.render.plan import render
    from tests.e2e.stacks import aggregated

    assert handlers.KopfSource
    assert main.run
    raw = aggregated("warm")
    raw["metadata"]["namespace"] = "warm"
    stack, _ = parse(AgenticServingStack, raw)
    assert stack is not None
    render(RenderInputs(stack=stack))


class Skewed:
    """The system's clock, on a node whose wall clock is wrong; how fast time passes is right."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def monotonic_s(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


def _start(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _operate(asked["settings"], Path(asked["log"]))
    return pid


def _operate(settings: dict[str, Any], log: Path) -> NoReturn:
    """In the child: the operator, with what `agentic-serving operator run` gives it."""
    from agentic_serving.controller.main import run
    from agentic_serving.settings import OperatorSettings

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        clock = Skewed(timedelta(seconds=given.pop("clock_ahead_s", 0.0)))
        code = asyncio.run(run(OperatorSettings(**given), clock=clock, rng=random.Random()))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    serve()
