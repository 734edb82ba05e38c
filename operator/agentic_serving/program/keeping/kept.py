"""The pieces: plain values. Times are seconds on the clock of whoever made or reads them; sizes are tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.events import Declared
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.graph_path import Path
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.sessions import Sessions

__all__ = ["Away", "Drawn", "Home", "Kept", "Learned", "Task", "Total", "World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that is kept of, and given back to.

    Attributes:
        graph: of a run; None: it has none.
        make_graph: the same, made if need be.
        rates: tokens per byte, by whatever name the host learns them.
    """

    scheduler: Scheduler
    sessions: Sessions
    graph: Callable[[str], SessionGraph | None]
    make_graph: Callable[[str], SessionGraph]
    rates: dict[str, TokenRate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What a replica's cache probably holds of a session; the first `shared` tokens are `base`'s as well."""

    replica: str
    tokens: int
    base: str = ""
    shared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Since when no turn of the session is under way. `replica`: where its state is needed again, or nowhere."""

    program: str
    since_s: float
    replica: str = ""
    declared: Declared | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What a run has come to; of roots only."""

    started_s: float
    turns: int
    tasks: int
    attained_tokens: int
    task_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Service that the run's task has attained here. `others`: elsewhere, by stack; `began`: its beginning was seen."""

    since_s: float
    tokens: int
    others: Mapping[str, int] = field(default_factory=dict)
    began: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Its place in the session graph: its last prompt by a few boundaries."""

    path: Path
    parent: str | None = None
    told: bool = False
    child_seen: bool = False
    child_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A session, and of a root its run."""

    name: str
    seen_s: float
    parent: str | None = None
    own: bool = False
    seen: bool = True
    tools: bool = False
    final: bool = False
    turns: int = 0
    chain: int = 0
    attained_tokens: int = 0
    homes: tuple[Home, ...] = ()
    away: Away | None = None
    drawn: Drawn | None = None
    total: Total | None = None
    task: Task | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned of all sessions, as JSON values: what cannot be read of it is learned anew.

    Attributes:
        replicas: by name: share believed of its cache, tokens held, prefill's tokens per second, unspent budget in seconds.
        gaps: by program (empty: of all), by `kind:<kind>` or `cause:<cause>`: weights of the histogram's buckets.
        decoding: the sums of the line through seconds per token over turns beside.
    """

    made: int = 0
    per_s: float = 0.0
    error: tuple[float, int] = (0.0, 0)
    rates: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    trust: Mapping[str, float] = field(default_factory=dict)
    decoding: tuple[float, ...] = ()
    replicas: Mapping[str, tuple[float, int, float, float]] = field(default_factory=dict)
    gaps: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
