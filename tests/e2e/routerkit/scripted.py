"""A scheduler process whose host does what each request's headers say, and prints what it hears as JSON lines.

`python -m tests.e2e.routerkit.scripted PORT active|standby`. It serves with the package's own server; only the decisions are a script:

- `x-test-hold-s`: hold for so long; `x-test-hold`: hold until a call with `x-test-let-go` and the same value arrives
- `x-test-endpoints`: the subset hint; `x-test-others`: the one of a second try; `x-test-refuse`: answer with that status
- `x-test-set`: `name=value`, a header to set; `x-test-body`: a body to put in its place
- `x-test-raise`: fail with an exception in this method of the host
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentic_serving.api.matching import PROGRAM_HEADER
from agentic_serving.router.server import Server, serve
from agentic_serving.router.words import Call, Declaration, Go, Pod, Refuse, Usage, Wait, Word
from tests.e2e.localcluster.process import Process, Workplace, wait_until

__all__ = ["Scripted", "ScriptedHost", "start"]

LISTENING = "listening"
NEVER_S = 600.0


@dataclass
class ScriptedHost:
    """A `Host` without a mind of its own."""

    held: dict[str, tuple[float, str, Go]] = field(default_factory=dict)  # until, group, then
    failing: dict[str, str] = field(default_factory=dict)  # call: in which method

    @property
    def wake_s(self) -> float | None:
        return min((until_s for until_s, _, _ in self.held.values()), default=None)

    def arrive(self, call: Call, now_s: float) -> Sequence[Word]:
        headers = call.headers
        shown = {name: value for name, value in headers.items() if name in ("x-tag", PROGRAM_HEADER)}
        say("arrive", call, path=call.path, n_bytes=len(call.body), complete=call.complete, headers=shown)
        self.failing[call.id] = headers.get("x-test-raise", "")
        self._fail(call.id, "arrive")
        if "x-test-refuse" in headers:
            status = int(headers["x-test-refuse"])
            return [Refuse(call_id=call.id, status=status, message="too many turns wait", retry_after_s=7)]
        words: list[Word] = []
        if "x-test-let-go" in headers:
            words += self._let_go(lambda _, group: group == headers["x-test-let-go"])
        return [*words, *self._first(call, now_s)]

    def _first(self, call: Call, now_s: float) -> list[Word]:
        headers = call.headers
        name, _, value = headers.get("x-test-set", "").partition("=")
        then = Go(
            call_id=call.id,
            endpoints=tuple(part for part in headers.get("x-test-endpoints", "").split(",") if part),
            others=tuple(part for part in headers.get("x-test-others", "").split(",") if part),
            headers={name: value} if name else {},
            body=headers["x-test-body"].encode() if "x-test-body" in headers else None,
        )
        if "x-test-hold-s" not in headers and "x-test-hold" not in headers:
            return [then]
        until_s = now_s + float(headers.get("x-test-hold-s", NEVER_S))
        self.held[call.id] = (until_s, headers.get("x-test-hold", ""), then)
        return [Wait(call_id=call.id, until_s=until_s)]

    def _let_go(self, due: Callable[[float, str], bool]) -> list[Word]:
        found = [call_id for call_id, (until_s, group, _) in self.held.items() if due(until_s, group)]
        return [self.held.pop(call_id)[2] for call_id in found]

    def first_token(self, call_id: str, now_s: float) -> Sequence[Word]:
        say("first_token", call_id)
        self._fail(call_id, "first_token")
        return []

    def closed(self, call_id: str, now_s: float) -> Sequence[Word]:
        self.held.pop(call_id, None)
        say("closed", call_id)
        self._fail(call_id, "closed")
        return []

    def usage(self, usage: Usage, now_s: float) -> Sequence[Word]:
        say("usage", usage.call_id, **{k: v for k, v in asdict(usage).items() if k != "call_id"})
        self._fail(usage.call_id, "usage")
        return []

    def pods(self, pods: Sequence[Pod], now_s: float) -> Sequence[Word]:
        return []

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        return False

    def tick(self, now_s: float) -> Sequence[Word]:
        return self._let_go(lambda until_s, _: until_s <= now_s)

    def _fail(self, call_id: str, where: str) -> None:
        if self.failing.get(call_id) == where:
            raise RuntimeError(f"told to fail in {where}")


def say(event: str, call: Call | str, **more: Any) -> None:
    call_id = call if isinstance(call, str) else call.id
    print(json.dumps({"event": event, "call_id": call_id, **more}), flush=True)


@dataclass(frozen=True)
class Scripted:
    """The process, started in a workplace, and what it has heard."""

    process: Process
    port: int

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.process.log.read_text(errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def of(self, call_id: str, event: str = "") -> list[dict[str, Any]]:
        return [e for e in self.events if e["call_id"] == call_id and (not event or e["event"] == event)]

    def take_over(self) -> None:
        """It becomes the active one."""
        os.kill(self.process.pid, signal.SIGUSR1)

    def tagged(self, tag: str) -> str:
        """Id of the call that was sent with `x-tag`; empty until it has arrived."""
        found = [e for e in self.events if e["event"] == "arrive" and e["headers"].get("x-tag") == tag]
        return found[-1]["call_id"] if found else ""

    def awaited(self, call_id: str, event: str) -> dict[str, Any]:
        """The first such event of the call, waited for."""
        wait_until(lambda: bool(self.of(call_id, event)), timeout_s=10, what=event, watch=[self.process])
        return self.of(call_id, event)[0]


def start(place: Workplace, port: int, *, active: bool = True) -> Scripted:
    """Starts it, or starts it again; its log goes on."""
    root = Path(__file__).parents[3]
    env = {"PYTHONPATH": f"{root}:{root / 'operator'}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.e2e.routerkit.scripted",
        str(port),
        "active" if active else "standby",
    ]
    process = place.start("scheduler", command, env=env)
    found = Scripted(process, port)
    n_before = sum(event["event"] == LISTENING for event in found.events)
    wait_until(
        lambda: sum(event["event"] == LISTENING for event in found.events) > n_before,
        timeout_s=30, what="the scheduler", watch=[process],
    )  # fmt: skip
    return found


async def main(port: int, state: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    takes_over = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, takes_over.set)
    server = await serve(
        ScriptedHost(),
        port=port,
        address="127.0.0.1",
        count_mishap=lambda part: say("mishap", part),
        active=state == "active",
    )
    say(LISTENING, "", at_s=time.monotonic())
    taking_over = asyncio.create_task(_take_over(takes_over, server))
    await stopped.wait()
    taking_over.cancel()
    await server.stop()


async def _take_over(told: asyncio.Event, server: Server) -> None:
    await told.wait()
    await server.set_active(True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
