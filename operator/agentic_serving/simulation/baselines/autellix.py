"""Autellix: programs that have got least go first, each program at one replica.

Source: arXiv:2502.13965 (NSDI '26), sections 4.2 and 4.3. There it is the engine's own scheduler; what a router cannot do
is left out: taking a call that runs off the engine when its quantum is used up.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

import math
from collections.abc import Sequence

from agentic_serving.simulation.baselines.placements import least_loaded
from agentic_serving.simulation.baselines.routed import Gate, Routed
from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["Atlas", "Autellix", "HomeReplica"]


class Atlas:
    """ATLAS, which for a program without parallel calls is PLAS: less service first, in levels, then by arrival.

    A program's service is the longest chain of its calls' execution times that was seen: a call begins with what its
    program has when it arrives, and its end raises the program's to that plus its own time. Execution time is without
    waiting; a router sees it as the prompt's computed tokens at the replica's rate, and the time from the first token
    to the last.

    The bounds of levels are not published: here they double, the first at `level_s`. Nor is `beta`: a call goes to the
    first level once its program's waits and its own are so many times the program's service. None is promoted unless it
    is given, in favour of the mean.
    """

    def __init__(self, *, prefill_tokens_per_s: float, level_s: float = 1.0, beta: float = math.inf) -> None:
        self._tokens_per_s = prefill_tokens_per_s
        self._level_s = level_s
        self._beta = beta
        self._service_s: dict[str, float] = {}  # by program
        self._waited_s: dict[str, float] = {}  # by program, of turns that ended
        self._began_s: dict[str, float] = {}  # by turn that waits or runs: what its program had then

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        for turn in waiting:
            self._began_s.setdefault(turn.id, self._service_s.get(turn.program, 0.0))
        return sorted(waiting, key=lambda turn: self._level(turn, now_s))

    def on_finish(self, ended: Ended) -> None:
        prefill_s = ended.usage.computed_tokens / self._tokens_per_s
        took_s = prefill_s + ended.finished_s - ended.first_token_s
        waited_s = max(ended.first_token_s - ended.turn.arrived_s - prefill_s, 0.0)
        chain_s = self._began_s.pop(ended.turn.id, 0.0) + took_s
        program = ended.turn.program
        self._service_s[program] = max(self._service_s.get(program, 0.0), chain_s)
        self._waited_s[program] = self._waited_s.get(program, 0.0) + waited_s

    def forget(self, turn: TurnView) -> None:
        """It failed; the try that comes next begins anew."""
        self._began_s.pop(turn.id, None)

    def on_end(self, program: str) -> None:
        self._service_s.pop(program, None)
        self._waited_s.pop(program, None)

    def _level(self, turn: TurnView, now_s: float) -> int:
        waited_s = self._waited_s.get(turn.program, 0.0) + now_s - turn.arrived_s
        if waited_s >= self._beta * self._service_s.get(turn.program, math.inf):
            return 0
        service_s = self._began_s[turn.id]
        return max(0, math.floor(math.log2(service_s / self._level_s)) + 1) if service_s > 0 else 0


class HomeReplica:
    """Algorithm 2: prompts up to 2,048 tokens go to the least used engine, longer ones to their program's.

    A program's engine is the least used one at its first long prompt.
    """

    def __init__(self, *, short_tokens: int = 2048) -> None:
        self._short_tokens = short_tokens
        self._homes: dict[str, int] = {}

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        if turn.prompt_tokens <= self._short_tokens:
            return least_loaded(open_)
        home = self._homes.get(turn.program)
        found = next((one for one in open_ if one.index == home), None) or least_loaded(open_)
        self._homes[turn.program] = found.index
        return found

    def home(self, turn: TurnView) -> int | None:
        """Where it has to go; None: anywhere."""
        return None if turn.prompt_tokens <= self._short_tokens else self._homes.get(turn.program)

    def on_finish(self, ended: Ended) -> None:
        """Nothing to remember."""

    def on_end(self, program: str) -> None:
        self._homes.pop(program, None)


class Autellix(Routed):
    """Both, behind a gate: without one the engines' own queues, first come, first served, would decide.

    A home whose gate is closed is waited for, as a pinned call waits in its engine; one that is down is left for good.
    """

    def __init__(self, *, prefill_tokens_per_s: float, gate: Gate) -> None:
        self._service = Atlas(prefill_tokens_per_s=prefill_tokens_per_s)
        self._homes = HomeReplica()
        super().__init__(self._homes, self._service, gate)

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        home = self._homes.home(turn)
        kept = [one for one in replicas if one.index == home and one.ready]
        return super().place(turn, kept or replicas, now_s)

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        super().on_fail(turn, replica, now_s)
        self._service.forget(turn)
