"""What a router can know, and what it is asked: the seam between a simulated fleet and any policy.

A policy sees turns that have arrived, what replicas report, and what it remembers itself. How long an answer will be,
what a tool will take, whether a session goes on: none of that is in here before it has happened.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from agentic_serving.capacity.runs import Runs
from agentic_serving.fleet.types import Stats, Usage
from agentic_serving.workload import GapKind

__all__ = [
    "Ended",
    "Policy",
    "PolicyBase",
    "ReplicaView",
    "SeesFailures",
    "SeesFirstTokens",
    "SplitsPrefill",
    "TurnHints",
    "TurnView",
    "WarmUp",
    "WarmsUp",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHints:
    """What a client declares of the future with a call. Whether it is true is another matter.

    Times are those that the client would measure with no contention.

    Attributes:
        follows: what its session does after the answer.
        gap_s: from the answer to the session's next call, sub-agents that it waits for included; None: none comes.
        fan_out: sub-agents that the answer starts.
        forks: those of them that begin with this call's prompt.
        critical_s: from this call's arrival to the end of the task, on the longest way.
    """

    follows: Literal["tool", "human", "end"]
    gap_s: float | None
    fan_out: int
    critical_s: float
    forks: int = 0

    @property
    def final(self) -> bool:
        """The session's last call."""
        return self.follows == "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnView:
    """A model call as it arrives: who asks (headers), and the prompt (body).

    Attributes:
        program: the run; in one simulation no two have the same name.
        parent: the session that started this one; None for a run's first.
        index: how many calls this session has made before.
        kind: what the prompt ends with: a tool's result, or a person's words.
        runs: the prompt's full blocks. Equal id, equal block and prefix.
        agent: the session's kind of agent.
        retry: how often this call was tried before (`x-stainless-retry-count`); every try has an id of its own.
        hints: None: the client declares nothing.
    """

    id: str
    program: str
    session: str
    parent: str | None
    index: int
    kind: GapKind
    runs: Runs
    prompt_tokens: int
    arrived_s: float
    agent: str = "main"
    retry: int = 0
    hints: TurnHints | None = None


@dataclass(slots=True, kw_only=True)
class ReplicaView:
    """A replica as the router knows it. Its gauges are current, or as of the last scrape.

    Attributes:
        turns: placed there by this router and not finished.
        prompt_tokens: of those turns.
        cache_tokens: what its KV cache holds, as the engine reports it.
        max_seqs: how many requests it runs at the same time.
        read: its gauges now; many policies never look at them.
        ready: False: it is down, and nothing can be placed there.
    """

    index: int
    cache_tokens: int
    block_size: int
    max_seqs: int
    read: Callable[[], Stats] = field(repr=False, compare=False)
    turns: int = 0
    prompt_tokens: int = 0
    ready: bool = True
    _stats: Stats | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def stats(self) -> Stats:
        """The engine's gauges."""
        if self._stats is None:
            self._stats = self.read()
        return self._stats

    def renew(self) -> None:
        """Time has passed, or the replica has been given something."""
        self._stats = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A turn's end: the engine's usage, and the times at the router."""

    turn: TurnView
    replica: int
    usage: Usage
    placed_s: float
    first_token_s: float
    finished_s: float
    prefill: int | None = None  # the replica that prefilled it, where that was another one


class Policy(Protocol):
    """A router's decisions. One object serves one simulation; `now_s` never goes back.

    Whenever a turn arrived, one ended, or `wake_s` came, and turns wait, the fleet asks `order` for their order, then
    `place` for each in turn, for as long as `ready`.
    """

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        """False: no turn would be placed now, whichever it is."""
        ...

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        """The turns in the order in which they are to be placed; given in the order of arrival."""
        ...

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        """The replica that the turn goes to, at once and for good; None: it is held."""
        ...

    def on_finish(self, ended: Ended) -> None:
        """A turn has ended."""
        ...

    def on_end(self, program: str, now_s: float) -> None:
        """A program said that it is over (only where the simulation announces ends)."""
        ...

    def wake_s(self, now_s: float) -> float | None:
        """When to ask again although nothing happened; None: not before something does."""
        ...


@runtime_checkable
class SplitsPrefill(Protocol):
    """A policy that says where a turn is prefilled, where replicas do that apart; without it the router does."""

    def place_prefill(
        self, turn: TurnView, replicas: Sequence[ReplicaView], decode: int, now_s: float
    ) -> int | None:
        """Of those that only prefill, the one for a turn that has just been placed; None: prefilled where it decodes."""
        ...


@runtime_checkable
class SeesFirstTokens(Protocol):
    """A policy that wants to know of every turn's first token, as of the response's headers."""

    def on_first_token(self, turn_id: str, replica: int, now_s: float) -> None: ...


@runtime_checkable
class SeesFailures(Protocol):
    """A policy that is told of turns that end without an answer."""

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        """Its replica died, or its client has gone; None: it was still held. If it comes again, then as another turn."""
        ...


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A prompt that a replica is to compute although nobody wants an answer there: one token is asked for."""

    id: str
    turn: TurnView
    replica: int


@runtime_checkable
class WarmsUp(Protocol):
    """A policy that has prompts computed on further replicas."""

    def warm_ups(self) -> Sequence[WarmUp]:
        """Those to begin now; asked after each round of `place`. Each is told of once when it is over."""
        ...

    def on_warmed(self, warm_up: WarmUp, usage: Usage | None, now_s: float) -> None:
        """It is over; None: without success."""
        ...


class PolicyBase:
    """Defaults: first come, first served, at once; remembers nothing.

    A policy may have more: what `SplitsPrefill`, `SeesFirstTokens` and `SeesFailures` have is called where it is there.
    """

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return True

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        return waiting

    def on_finish(self, ended: Ended) -> None:
        """Nothing to remember."""

    def on_end(self, program: str, now_s: float) -> None:
        """Nothing to forget."""

    def wake_s(self, now_s: float) -> float | None:
        return None
