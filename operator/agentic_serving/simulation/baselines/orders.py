"""Which waiting turn goes first: llm-d's program-aware fairness, in its two strategies.

Source: github.com/llm-d/llm-d-router, flow control, fairness, `program-aware`. A program there is one agent identity.
Its queue is first come, first served; the order is between the programs' heads. Claude Code sends one identity for an
agent and its sub-agents, so that they share a queue here too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentic_serving.simulation.views import Ended, TurnView

__all__ = ["LeastAttainedService", "TurnPriority"]


@dataclass(slots=True)
class _Service:
    """Weighted tokens that a program got, halved every half-life."""

    tokens: float = 0.0
    at_s: float = 0.0

    def now(self, now_s: float, half_life_s: float) -> float:
        return self.tokens * math.exp2((self.at_s - now_s) / half_life_s)


class LeastAttainedService:
    """`strategy: las`, with the defaults of the main branch (2026-08).

    Service is prompt + 2 * answer tokens, added at a turn's end, cached ones too, with a half-life of 60 s
    (`lasHalfLifeSeconds`). Highest first: 0.8 * (1 - service / most service) + 0.2 * (wait of the head / longest wait)
    (`lasWeightService`, `lasWeightHeadWait`).
    """

    def __init__(
        self, *, half_life_s: float = 60.0, service_weight: float = 0.8, wait_weight: float = 0.2
    ) -> None:
        self._half_life_s = half_life_s
        self._service_weight = service_weight
        self._wait_weight = wait_weight
        self._attained: dict[str, _Service] = {}

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        heads = _heads(waiting)
        service = {program: self._now(program, now_s) for program in heads}
        most = max(service.values(), default=0.0) or 1.0
        longest = max((now_s - head.arrived_s for head in heads.values()), default=0.0) or 1.0

        def score(program: str) -> float:
            wait = (now_s - heads[program].arrived_s) / longest
            return self._service_weight * (1 - service[program] / most) + self._wait_weight * wait

        return _by_program(waiting, score)

    def on_finish(self, ended: Ended) -> None:
        tokens = ended.usage.prompt_tokens + 2 * ended.usage.output_tokens
        before = self._now(ended.turn.program, ended.finished_s)
        self._attained[ended.turn.program] = _Service(before + tokens, ended.finished_s)

    def on_end(self, program: str) -> None:
        self._attained.pop(program, None)

    def _now(self, program: str, now_s: float) -> float:
        return self._attained.get(program, _Service()).now(now_s, self._half_life_s)


class TurnPriority:
    """`strategy: turn-priority` (pull request 2116): turns so far + weight * seconds its head waits, highest first.

    A program that was idle for 120 s starts again at turn 1 (`turnPriorityInactivitySeconds`). One second of waiting is
    worth half a turn: the plugin's README has `turnPriorityTimeWeight` 0.5, and argues against the 0.05 that the pull
    request began with (b1f8cce): within a request's 60 s in the queue a newcomer could then make up for three turns only.
    llm-d's guide still names 0.05 as the default: sources disagree, so it is a parameter.
    """

    def __init__(self, *, wait_weight: float = 0.5, idle_s: float = 120.0) -> None:
        self._wait_weight = wait_weight
        self._idle_s = idle_s
        self._turns: dict[str, tuple[int, float]] = {}  # program → (turns that ended, last end)

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        heads = _heads(waiting)

        def score(program: str) -> float:
            head = heads[program]
            turns, ended_s = self._turns.get(program, (0, head.arrived_s))
            number = 1 if head.arrived_s - ended_s > self._idle_s else turns + 1
            return number + self._wait_weight * (now_s - head.arrived_s)

        return _by_program(waiting, score)

    def on_finish(self, ended: Ended) -> None:
        program = ended.turn.program
        turns, ended_s = self._turns.get(program, (0, ended.turn.arrived_s))
        fresh = ended.turn.arrived_s - ended_s > self._idle_s
        self._turns[program] = (1 if fresh else turns + 1, ended.finished_s)

    def on_end(self, program: str) -> None:
        self._turns.pop(program, None)


def _heads(waiting: Sequence[TurnView]) -> dict[str, TurnView]:
    """Each program's first; the turns come in the order of arrival."""
    heads: dict[str, TurnView] = {}
    for turn in waiting:
        heads.setdefault(turn.program, turn)
    return heads


def _by_program(waiting: Sequence[TurnView], score: Callable[[str], float]) -> Sequence[TurnView]:
    scores = {turn.program: 0.0 for turn in waiting}
    for program in scores:
        scores[program] = score(program)
    return sorted(waiting, key=lambda turn: -scores[turn.program])
