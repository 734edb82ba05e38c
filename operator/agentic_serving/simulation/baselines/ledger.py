"""A ThunderAgent-style ledger: programs are admitted by the tokens they hold, and paused at tool boundaries.

Source: ThunderAgent (arXiv:2602.13692) and its router.py at github.com/ThunderAgent-org/ThunderAgent, a7eef77. Per
replica, capacity is what the engine's cache holds; a program counts with the tokens of its last call while it is being
served (reasoning), with those times `acting_weight` while a tool runs; 100 tokens are added for each program. With `decay`
(`--use-acting-token-decay`: off unless asked for, on in the paper) it counts times 2^-t, t seconds since its last answer,
when programs are resumed.
- resume, whenever something changed or 5 s passed: waiting programs in the order of `_restore_rank` for as long as they fit the sum of what is free, each on the
  replica that has most free (its KV counts as lost);
- pause, every 5 s: while a replica is over, the smallest acting program of it; else the smallest reasoning one is marked and
  pauses at its next tool boundary.
A program that waited 1,800 s is resumed in any case. Left out: the count of tokens shared between programs, which the
paper reads from the engine and the source never updates. In its favour: programs are resumed at once and not only every 5 s,
and no more reasoning ones are marked than needed (the source marks all, since those marked do not count as free). Added: a program's sub-agents count with it
until its root goes on alone, and a program that is larger than a cache may run on an empty replica.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["ThunderLedger"]


@dataclass(slots=True)
class _Program:
    """Its tokens are those of its sessions together; it is acting while none of them has a turn under way."""

    name: str
    since_s: float  # when it began to wait, or when its last turn ended
    replica: int | None = None  # None: paused or not yet admitted
    tokens: dict[str, int] = field(default_factory=dict)  # by session
    serving: int = 0  # turns under way
    asking: int = 0  # turns that wait
    turns: int = 0
    marked: bool = False

    @property
    def size(self) -> int:
        return sum(self.tokens.values())

    @property
    def reasoning(self) -> bool:
        return self.serving > 0 or self.asking > 0


class ThunderLedger:
    """The policy. One program, one replica; a program's waiting turns go there as soon as it is active."""

    def __init__(
        self,
        *,
        period_s: float = 5.0,
        overhead_tokens: int = 100,
        acting_weight: float = 1.0,
        force_s: float = 1800.0,
        decay: bool = True,
    ) -> None:
        self._period_s = period_s
        self._overhead = overhead_tokens
        self._acting_weight = acting_weight
        self._force_s = force_s
        self._decay = decay
        self._programs: dict[str, _Program] = {}
        self._seen: set[str] = set()  # turns that wait
        self._planned = True  # resuming was thought about in this round of placing
        self._pause_s = 0.0  # when to pause next

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return True

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        for turn in waiting:
            if turn.id not in self._seen:
                self._ask(turn, now_s)
        self._planned = False
        return waiting

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        if not self._planned:
            self._planned = True
            self._plan(replicas, now_s)
        program = self._programs[turn.program]
        if program.replica is None:
            return None
        self._seen.discard(turn.id)
        program.asking -= 1
        program.serving += 1
        program.tokens[turn.session] = turn.prompt_tokens
        return program.replica

    def on_finish(self, ended: Ended) -> None:
        program = self._programs[ended.turn.program]
        program.serving -= 1
        program.turns += 1
        program.since_s = ended.finished_s
        program.tokens[ended.turn.session] = ended.usage.prompt_tokens + ended.usage.output_tokens
        if program.marked and not program.serving:
            self._stop(program, ended.finished_s)

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        """What is lost is not there: the program is admitted anew."""
        program = self._programs[turn.program]
        if replica is None:
            program.asking -= 1
            self._seen.discard(turn.id)
            return
        program.serving -= 1
        if not program.serving:
            self._stop(program, now_s)

    def on_end(self, program: str, now_s: float) -> None:
        self._programs.pop(program, None)

    def wake_s(self, now_s: float) -> float | None:
        return (math.floor(now_s / self._period_s) + 1) * self._period_s

    def _ask(self, turn: TurnView, now_s: float) -> None:
        program = self._programs.setdefault(turn.program, _Program(turn.program, now_s))
        if program.replica is None and not program.asking:
            program.since_s = now_s
        if turn.parent is None and not program.serving and not program.asking:
            program.tokens.clear()  # the root goes on: its sub-agents have ended
        program.asking += 1
        program.tokens[turn.session] = turn.prompt_tokens
        self._seen.add(turn.id)

    def _plan(self, replicas: Sequence[ReplicaView], now_s: float) -> None:
        up = [one for one in replicas if one.ready]
        if len(up) < len(replicas):
            self._leave(up, now_s)
            replicas = up
        if now_s >= self._pause_s:
            self._pause_s = now_s + self._period_s
            for index, free in self._free(replicas, now_s, decayed=False).items():
                if free < 0:
                    self._pause(index, free, now_s)
        self._resume(replicas, now_s)

    def _leave(self, up: Sequence[ReplicaView], now_s: float) -> None:
        """Programs whose replica is down wait."""
        there = {one.index for one in up}
        for program in self._programs.values():
            if program.replica is not None and program.replica not in there:
                self._stop(program, now_s)

    def _free(self, replicas: Sequence[ReplicaView], now_s: float, *, decayed: bool) -> dict[int, float]:
        free = {view.index: float(view.cache_tokens) for view in replicas}
        for program in self._programs.values():
            if program.replica is None:
                continue
            tokens = float(program.size)
            if not program.reasoning:
                tokens *= math.exp2(program.since_s - now_s) if decayed else self._acting_weight
            free[program.replica] -= tokens + self._overhead
        return free

    def _pause(self, index: int, free: float, now_s: float) -> None:
        here = [one for one in self._programs.values() if one.replica == index and not one.marked]
        for program in sorted(here, key=lambda one: (one.reasoning, one.size, one.name)):
            if free >= 0:
                return
            if program.reasoning:
                program.marked = True
            else:
                self._stop(program, now_s)
            free += program.size + self._overhead

    def _stop(self, program: _Program, now_s: float) -> None:
        program.replica, program.marked = None, False
        if program.asking:
            program.since_s = now_s

    def _resume(self, replicas: Sequence[ReplicaView], now_s: float) -> None:
        asking = [one for one in self._programs.values() if one.replica is None and one.asking]
        if not asking or not replicas:
            return
        free = self._free(replicas, now_s, decayed=self._decay)
        total = sum(max(value, 0.0) for value in free.values())
        for program in sorted(asking, key=_restore_rank):
            need = program.size + self._overhead
            most = max(free, key=lambda index: (free[index], -index))
            forced = now_s - program.since_s >= self._force_s or self._alone(most)
            if need > min(total, free[most]) and not forced:
                continue
            program.replica = most
            free[most] -= need
            total -= need

    def _alone(self, index: int) -> bool:
        """Nobody is there: a program larger than a cache must run somewhere."""
        return all(one.replica != index for one in self._programs.values())


def _restore_rank(program: _Program) -> tuple[bool, int, float, str]:
    """Those that have run before, then new ones; the smallest first."""
    return (program.turns == 0, program.size, program.since_s, program.name)
