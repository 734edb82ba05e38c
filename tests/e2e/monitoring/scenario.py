"""An hour of a stack with three programs under a wave of load, as the notes that a desk would tell. Seeded.

Invented figures, of the size that benchmarks show: it exists to put something into every panel, not to prove a gain.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import exp
from random import Random
from typing import Literal

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.router import words
from agentic_serving.router.config import Config, Program
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.views import HeldCall, Live, Replica

__all__ = ["CONFIG", "HOUR_S", "Scenario"]

HOUR_S = 3600.0
_REPLICAS = ("chat-0", "chat-1", "chat-2", "chat-3")
_CAPACITY = 400_000
_HOLDS = ("WaitsForRoom", "WaitsForRoom", "WaitsForPrefill", "WaitsForSibling")
_ADMITS = ("PrefixIsThere", "PrefixIsThere", "CacheHasRoom", "RecomputeIsCheap", "HeldLongEnough")
_CAUSES: tuple[words.Cause, ...] = ("Evicted", "Evicted", "OtherReplica", "Compaction", "Edit")


def _program(
    name: str, completion_s: float | None, percent: float, first_token_s: float | None = None
) -> Program:
    return Program(
        route=ProgramRoute(namespace="team", name=name),
        completion_s=completion_s,
        completion_percent=percent,
        first_token_s=first_token_s,
    )


CONFIG = Config(
    namespace="team",
    stack="chat",
    mode="Enforce",
    programs=(
        _program("code-review", 180.0, 95.0, 10.0),
        _program("support", 30.0, 90.0),
        _program("batch-migration", 900.0, 50.0),
    ),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a program behaves: turns a task, seconds of decoding and of tools, tokens of a prompt, sessions at once."""

    turns: int
    decode_s: float
    tool_s: float
    prompt: int
    sessions: int
    client: str


_KINDS = {
    "code-review": _Kind(8, 4.0, 3.0, 60_000, 14, "ClaudeCode"),
    "support": _Kind(3, 2.0, 1.0, 12_000, 10, "generic"),
    "batch-migration": _Kind(15, 6.0, 8.0, 90_000, 12, "Codex"),
}


def _load(at_s: float) -> float:
    """0 to 1: a wave with its crest at 35 minutes."""
    return exp(-(((at_s - 2100) / 700) ** 2))


@dataclass(slots=True)
class Scenario:
    """Tells a `Metrics`; `until` moves the story on. It is also what gauges look at."""

    metrics: Metrics
    seed: int = 42
    now_s: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    _held: int = 0
    _flying: int = 0
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self.metrics.view(self, clock=lambda: self.now_s)
        self.metrics.active(active=True)
        self.metrics.config_read(ok=True)
        for program, kind in _KINDS.items():
            for n in range(kind.sessions):
                self._at(self._rng.uniform(0, 90), lambda p=program, n=n: self._task(p, n))  # type: ignore[misc]
        for at_s in (900, 1800, 2000, 2100, 2700):
            self._at(at_s, lambda: (self.metrics.error("scrape"), self.metrics.not_parsed())[0])

    def until(self, at_s: float) -> None:
        while self._events and self._events[0][0] <= at_s:
            self.now_s, _, happens = heapq.heappop(self._events)
            happens()
        self.now_s = at_s

    def live(self, now_s: float) -> Live:
        need = 0.55 + 0.6 * _load(now_s)
        return Live(
            runs=36,
            sessions=36 + round(20 * _load(now_s)),
            in_flight=self._flying,
            held=self._held,
            held_bytes=self._held * 350_000,
            replicas=tuple(
                Replica(
                    name=name,
                    capacity_tokens=_CAPACITY,
                    held_tokens=int(_CAPACITY * min(0.98, need * (0.9 + 0.05 * n))),
                    needed_tokens=int(_CAPACITY * need * (0.8 + 0.08 * n)),
                    residents=6 + n + round(3 * _load(now_s)),
                )
                for n, name in enumerate(_REPLICAS)
            ),
        )

    def held(self, now_s: float, limit: int) -> list[HeldCall]:
        return []

    def _at(self, at_s: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), happens))

    def _tell(self, note: words.Note) -> None:
        self.metrics.hear(note, self.now_s)

    def _task(self, program: str, n: int) -> None:
        _Task(self, program, f"{program}/s{n}", _KINDS[program], self.now_s).turn(1)


@dataclass(slots=True)
class _Task:
    """One task of one session: turns in a row, then a person's pause and the next task."""

    world: Scenario
    program: str
    session: str
    kind: _Kind
    began_s: float
    held_s: float = 0.0

    def turn(self, n: int) -> None:
        world, rng = self.world, self.world._rng
        call = f"{self.session}-{self.began_s}-{n}"
        load = _load(world.now_s)
        new = int(rng.uniform(0.05, 0.15) * self.kind.prompt)
        world._tell(
            words.Came(
                call_id=call, program=self.program, run=self.session, session=self.session, parent=None,
                client=self.kind.client, api="chat", model="m", kind="human" if n == 1 else "tool", side="",
                turn=n, confidence=1.0, prompt_tokens=self.kind.prompt, new_tokens=new,
                reused_tokens=self.kind.prompt - new,
            )
        )  # fmt: skip
        hold_s = rng.expovariate(1 / 12) if rng.random() < 0.5 * load else 0.0
        if hold_s:
            world._held += 1
            world._tell(words.Decided(call_id=call, verdict="Hold", reason=rng.choice(_HOLDS)))
        world._at(world.now_s + hold_s, lambda: self._admit(call, n, hold_s, new))

    def _admit(self, call: str, n: int, hold_s: float, new: int) -> None:
        world, rng = self.world, self.world._rng
        load = _load(world.now_s)
        self.held_s += hold_s
        world._held -= hold_s > 0
        world._flying += 1
        asked = rng.choice(_REPLICAS) if rng.random() < 0.95 else ""
        reason = rng.choice(_ADMITS)
        world._tell(words.Decided(call_id=call, verdict="Admit", reason=reason, replica=asked, held_s=hold_s))
        lost = (
            int(rng.uniform(0.1, 0.6) * self.kind.prompt)
            if n > 1 and rng.random() < 0.05 + 0.25 * load
            else 0
        )
        prefill_s = 0.3 + (new + lost) / 15_000
        replica = asked if asked and rng.random() < 0.97 else rng.choice(_REPLICAS)
        world._at(
            world.now_s + prefill_s,
            lambda: world._tell(words.Began(call_id=call, status=200, replica=replica)),
        )
        decode_s = self.kind.decode_s * rng.uniform(0.6, 1.4) * (1 + load)
        world._at(world.now_s + prefill_s + decode_s, lambda: self._end(call, n, replica, new, lost))

    def _end(self, call: str, n: int, replica: str, new: int, lost: int) -> None:
        world, rng = self.world, self.world._rng
        world._flying -= 1
        cached = max(0, self.kind.prompt - new - lost)
        chance = rng.random()
        outcome: Literal["Answered", "Failed", "ClientLeft"] = (
            "Failed" if chance < 0.004 else "ClientLeft" if chance < 0.012 else "Answered"
        )
        world._tell(
            words.Done(
                call_id=call, outcome=outcome, replica=replica, prompt_tokens=self.kind.prompt,
                cached_tokens=cached, output_tokens=int(60 * self.kind.decode_s), estimated=rng.random() < 0.01,
                expected_cached_tokens=int((self.kind.prompt - new) * rng.uniform(0.97, 1.0)),
                recomputed={rng.choice(_CAUSES): lost} if lost else {},
            )
        )  # fmt: skip
        if n < self.kind.turns:
            self._pause("tool", self.kind.tool_s, lambda: self.turn(n + 1))
            return
        took_s = world.now_s - self.began_s
        alone_s = took_s / (1 + 2.2 * _load(world.now_s) * rng.uniform(0.6, 1.2))
        world._tell(
            words.TaskDone(
                program=self.program, run=self.session, took_s=took_s, alone_s=alone_s,
                held_s=self.held_s, turns=n,
            )
        )  # fmt: skip
        if rng.random() < 0.2:
            world._tell(
                words.Over(
                    session=self.session, run=self.session, program=self.program, why="ended", took_s=took_s
                )
            )
        index = int(self.session.rpartition("s")[2])
        self._pause("human", 25.0, lambda: world._task(self.program, index))

    def _pause(self, kind: Literal["tool", "human"], mean_s: float, then: Callable[[], None]) -> None:
        world = self.world
        gap_s = world._rng.uniform(0.4, 1.6) * mean_s

        def back() -> None:
            world._tell(words.Closed(session=self.session, program=self.program, kind=kind, gap_s=gap_s))
            then()

        world._at(world.now_s + gap_s, back)
