"""A router made of three parts: where a turn goes, which goes first, and how much is let into the engines."""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol, runtime_checkable

from agentic_serving.simulation.views import Ended, ReplicaView, TurnView

__all__ = ["ArrivalOrder", "Charges", "Gate", "Order", "Placement", "Routed"]


class Placement(Protocol):
    """Chooses among replicas that take turns; it is told of every choice and every end."""

    def choose(self, turn: TurnView, open_: Sequence[ReplicaView], now_s: float) -> ReplicaView:
        """One of the replicas; there is at least one."""
        ...

    def on_finish(self, ended: Ended) -> None: ...

    def on_end(self, program: str) -> None: ...


@runtime_checkable
class Charges(Protocol):
    """A placement that counts what is under way must know of turns that end without an answer."""

    def on_fail(self, turn: TurnView, replica: int) -> None: ...


class Order(Protocol):
    """Which of the waiting turns goes first."""

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]: ...

    def on_finish(self, ended: Ended) -> None: ...

    def on_end(self, program: str) -> None: ...


class ArrivalOrder:
    """First come, first served."""

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        return waiting

    def on_finish(self, ended: Ended) -> None:
        """Nothing to remember."""

    def on_end(self, program: str) -> None:
        """Nothing to forget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What of the queue stays in the router.

    Attributes:
        turns_per_seq: a replica takes turns up to this many times its `max_seqs`. llm-d's agentic guide pairs its
            fairness plugin with a concurrency detector of 133 for 128 sequences
            (github.com/llm-d/llm-d, guides/agentic-serving, program-aware values). None: no bound.
        engine_queue: a replica takes turns while fewer than this wait in it; None: no bound. With 1 the order of the
            router's queue is the order of service even where the KV cache and not `max_seqs` is what runs out.
    """

    turns_per_seq: float | None = None
    engine_queue: int | None = None

    def open(self, replica: ReplicaView) -> bool:
        """The replica takes one more turn."""
        if self.engine_queue is not None and replica.stats.waiting >= self.engine_queue:
            return False
        return self.turns_per_seq is None or replica.turns < ceil(self.turns_per_seq * replica.max_seqs)


class Routed:
    """A policy of these parts."""

    def __init__(self, placement: Placement, order: Order | None = None, gate: Gate | None = None) -> None:
        self._placement = placement
        self._order: Order = order or ArrivalOrder()
        self._gate = gate or Gate()
        self._free = gate is None or gate == Gate()

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return self._free or any(replica.ready and self._gate.open(replica) for replica in replicas)

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        return self._order.order(waiting, now_s)

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        open_ = [one for one in replicas if one.ready and (self._free or self._gate.open(one))]
        return self._placement.choose(turn, open_, now_s).index if open_ else None

    def on_finish(self, ended: Ended) -> None:
        self._placement.on_finish(ended)
        self._order.on_finish(ended)

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        if replica is not None and isinstance(self._placement, Charges):
            self._placement.on_fail(turn, replica)

    def on_end(self, program: str, now_s: float) -> None:
        self._placement.on_end(program)
        self._order.on_end(program)

    def wake_s(self, now_s: float) -> float | None:
        return None
