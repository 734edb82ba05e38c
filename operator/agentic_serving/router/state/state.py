"""State of the scheduler beyond its process: the interface, and the backend that keeps none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.service import Service
from agentic_serving.program.sessions import Sessions
from agentic_serving.router.words import Listener, Note, Word

__all__ = ["Deliver", "Known", "Loaded", "Memory", "State"]

#: Hands words for held calls to whoever waits for them.
Deliver = Callable[[Sequence[Word]], None]


class Known(Protocol):
    """What is read of the desk, and given back to it.

    Attributes:
        recall: asked for a session, by name, before a turn of it is looked at.
    """

    recall: Callable[[str], None] | None

    @property
    def scheduler(self) -> Scheduler: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def rates(self) -> dict[str, TokenRate]: ...

    def graph_of(self, run: str) -> SessionGraph: ...

    def end_run(self, run: str, now_s: float) -> Sequence[Word]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was there. `pending`: sessions that come in while it serves; `took_s`: until it may serve."""

    restored: int = 0
    pending: int = 0
    took_s: float = 0.0


class State(Protocol):
    """What may outlive the process.

    Attributes:
        service: for the desk's scheduler.
        journal: one of the desk's listeners.
        problem: one sentence for people; empty: there is none.
        counters: for metrics.
    """

    @property
    def service(self) -> Service: ...
    @property
    def journal(self) -> Listener: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def problem(self) -> str: ...
    @property
    def counters(self) -> Mapping[str, float]: ...

    async def load(self, desk: Known, deliver: Deliver) -> Loaded:
        """This process is the active one now: it learns what is kept, for at most a second, and keeps it from here on. Never raises."""
        ...

    async def release(self) -> None:
        """Another process is to be the active one."""
        ...

    async def close(self) -> None:
        """The process ends."""
        ...


class _Deaf:
    def hear(self, note: Note, now_s: float) -> None:
        """Nothing is kept."""


class Memory:
    """Nothing outlives the process."""

    healthy = True
    problem = ""

    def __init__(self) -> None:
        self.service = Service()
        self.journal: Listener = _Deaf()
        self.counters: Mapping[str, float] = {}

    async def load(self, desk: Known, deliver: Deliver) -> Loaded:  # noqa: ARG002 - as every backend
        return Loaded()

    async def release(self) -> None:
        """Nothing was begun."""

    async def close(self) -> None:
        """Nothing was begun."""
