"""What a simulation leaves behind: every turn, task and run, as plain values."""

from dataclasses import dataclass, field

from agentic_serving.capacity.runs import Runs

__all__ = ["Result", "Timed", "TurnRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One finished turn.

    Attributes:
        placed_s: when the router sent it to its replica.
        scheduled_s: when the replica began to compute it.
        runs: the blocks of prompt and answer.
        repeated_tokens: of the prompt, in blocks that some turn of the stack had computed before this one ended.
        cached_tokens: of the prompt, what was computed nowhere for this turn.
        recomputed_tokens: of those that are repeated, what was computed again for this turn.
        stack: that of the replica; "" is the setup's own.
        retried_s: from the first arrival to that of the try that was answered; `tries` counts it.
        prefill: the replica that prefilled it, where that was another one, and `prefilled_s` when it was done.
        transferred_tokens: whose KV came from there, and `transferred_bytes` in whole blocks.
        loaded_tokens: whose KV came from a tier.
    """

    id: str
    program: str
    session: str
    index: int
    replica: int
    arrived_s: float
    placed_s: float
    scheduled_s: float
    first_token_s: float
    finished_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    repeated_tokens: int
    recomputed_tokens: int
    preemptions: int
    runs: Runs = field(repr=False)
    agent: str = "main"
    stack: str = ""
    tries: int = 1
    retried_s: float = 0.0
    prefill: int | None = None
    prefilled_s: float | None = None
    transferred_tokens: int = 0
    transferred_bytes: int = 0
    loaded_tokens: int = 0

    @property
    def held_s(self) -> float:
        return self.placed_s - self.arrived_s - self.retried_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A task or a run.

    Attributes:
        took_s: completion; of an unfinished one its age at the horizon, so that starvation cannot hide.
        alone_s: what it takes with no contention at all.
    """

    id: str
    arrived_s: float
    took_s: float
    alone_s: float
    finished: bool

    @property
    def slowdown(self) -> float:
        return self.took_s / self.alone_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One simulation.

    Attributes:
        held_s: the longest any turn was held at the router, those still held at the end included.
        end_s: when it ended: the horizon, or the last event.
        started: runs that started.
        failed: tries that ended without an answer.
        misplaced: times that a policy named a replica that was down; the turn went to the least loaded one.
        given_up: runs that their clients gave up; they are among the unfinished ones.
    """

    turns: tuple[TurnRecord, ...]
    tasks: tuple[Timed, ...]
    runs: tuple[Timed, ...]
    held_s: float
    end_s: float
    started: int
    failed: int = 0
    misplaced: int = 0
    given_up: int = 0
