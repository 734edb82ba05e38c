"""What programs reached of late: the numbers behind an AgentProgram's status, over a sliding window, by nearest rank.

Bounded for each program: 60 minutes of sums, and the newest 4,096 of every duration. Programs are bounded as labels are.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from agentic_serving.router import words
from agentic_serving.router.config import Config, Program
from agentic_serving.router.inflight import InFlight
from agentic_serving.router.labels import Capped

__all__ = ["WINDOW_S", "Report", "percentiles"]

#: An hour: long enough for a p99 of agents' tasks, short enough that a repair shows.
WINDOW_S = 3600.0
_SLICE_S = 60.0
_MOST_SAMPLES = 4096
_PERCENT = (50, 95, 99)


def percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """p50, p95 and p99 by nearest rank; None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    return {f"p{p}": ranked[max(0, ceil(len(ranked) * p / 100) - 1)] for p in _PERCENT}


class _Samples:
    """The newest values with their times."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=_MOST_SAMPLES)

    def add(self, value: float, now_s: float) -> None:
        self._values.append((now_s, value))

    def since(self, at_s: float) -> list[float]:
        while self._values and self._values[0][0] < at_s:
            self._values.popleft()
        return [value for _, value in self._values]


@dataclass(slots=True)
class _Slice:
    """Sums of one minute."""

    begin_s: float
    turns: int = 0
    failed: int = 0
    held: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    recomputed_tokens: int = 0


@dataclass(slots=True)
class _Past:
    """One program."""

    slices: deque[_Slice] = field(default_factory=deque)
    completed_s: dict[str, _Samples] = field(default_factory=lambda: {"Task": _Samples(), "Run": _Samples()})
    slowdown: _Samples = field(default_factory=_Samples)
    first_token_s: _Samples = field(default_factory=_Samples)
    held_s: _Samples = field(default_factory=_Samples)
    last_s: float | None = None

    def now(self, now_s: float) -> _Slice:
        if not self.slices or now_s - self.slices[-1].begin_s >= _SLICE_S:
            self.slices.append(_Slice(now_s))
            self.forget(now_s - WINDOW_S)
        return self.slices[-1]

    def forget(self, before_s: float) -> None:
        while self.slices and self.slices[0].begin_s < before_s:
            self.slices.popleft()

    def total(self, name: str) -> int:
        return sum(getattr(one, name) for one in self.slices)


@dataclass(frozen=True, slots=True)
class _Call:
    program: str
    kind: str
    came_s: float


class Report:
    """Hears notes; `programs` tells."""

    def __init__(self, config: Config) -> None:
        self._label = Capped(p.route.name for p in config.programs)
        self._programs: dict[str, Program] = {}
        self._past: dict[str, _Past] = {}
        self._calls: InFlight[_Call] = InFlight()
        self._hearing: dict[type, Callable[[Any, float], None]] = {
            words.Came: self._came,
            words.Decided: self._decided,
            words.Began: self._began,
            words.Done: self._done,
            words.TaskDone: self._task,
            words.Over: self._over,
        }
        self.configure(config)

    def configure(self, config: Config) -> None:
        self._programs = {p.route.name: p for p in config.programs}

    def hear(self, note: words.Note, now_s: float) -> None:
        hear = self._hearing.get(type(note))
        if hear is not None:
            hear(note, now_s)

    def programs(self, now_s: float) -> list[dict[str, Any]]:
        """Configured programs, then others that had turns, as the HTTP API tells them."""
        names = [*self._programs, *sorted(name for name in self._past if name not in self._programs)]
        return [self._one(name, now_s) for name in names]

    def _one(self, name: str, now_s: float) -> dict[str, Any]:
        program, past = self._programs.get(name), self._past.get(name, _Past())
        since_s = now_s - WINDOW_S
        past.forget(since_s)
        unit = program.unit if program is not None else "Task"
        completed = past.completed_s[unit].since(since_s)
        first = past.first_token_s.since(since_s)
        prompt = past.total("prompt_tokens")
        return {
            "name": name,
            "unit": unit,
            "completed": len(completed),
            "completion_s": percentiles(completed),
            "attainment_percent": _within(completed, program.completion_s if program else None),
            "first_token_after_tool_s": percentiles(first),
            "first_token_attainment_percent": _within(first, program.first_token_s if program else None),
            "recompute_percent": 100 * past.total("recomputed_tokens") / prompt if prompt else None,
            "slowdown": percentiles(past.slowdown.since(since_s)),
            "hold_s": percentiles(past.held_s.since(since_s)),
            **{n: past.total(n) for n in ("turns", "failed", "held", *_TOKENS)},
            "last_turn_s_ago": None if past.last_s is None else now_s - past.last_s,
        }

    def _of(self, program: str) -> _Past:
        return self._past.setdefault(self._label(program), _Past())

    def _came(self, note: words.Came, now_s: float) -> None:
        self._calls.begin(note.call_id, _Call(note.program, note.kind, now_s))
        self._of(note.program).last_s = now_s

    def _decided(self, note: words.Decided, now_s: float) -> None:
        call = self._calls.get(note.call_id)
        if call is not None and note.verdict != "Hold" and note.held_s > 0:
            past = self._of(call.program)
            past.now(now_s).held += 1
            past.held_s.add(note.held_s, now_s)

    def _began(self, note: words.Began, now_s: float) -> None:
        call = self._calls.get(note.call_id)
        if call is not None and call.kind == "tool" and 200 <= note.status < 300:
            self._of(call.program).first_token_s.add(now_s - call.came_s, now_s)

    def _done(self, note: words.Done, now_s: float) -> None:
        call = self._calls.end(note.call_id)
        if call is None:
            return
        now = self._of(call.program).now(now_s)
        now.turns += 1
        now.failed += note.outcome == "Failed"
        if note.outcome == "Answered":
            now.prompt_tokens += note.prompt_tokens
            now.cached_tokens += note.cached_tokens
            now.output_tokens += note.output_tokens
            now.recomputed_tokens += sum(note.recomputed.values())

    def _task(self, note: words.TaskDone, now_s: float) -> None:
        past = self._of(note.program)
        past.completed_s["Task"].add(note.took_s, now_s)
        if note.alone_s > 0:
            past.slowdown.add(note.took_s / note.alone_s, now_s)

    def _over(self, note: words.Over, now_s: float) -> None:
        if note.session == note.run:
            self._of(note.program).completed_s["Run"].add(note.took_s, now_s)


_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")


def _within(values: list[float], target_s: float | None) -> float | None:
    """Percent of the values that meet the target."""
    if target_s is None or not values:
        return None
    return 100 * sum(value <= target_s for value in values) / len(values)
