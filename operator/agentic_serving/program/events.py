"""What happens to a program scheduler, and what it wants done: the seam between the decisions and whoever hosts them.

Plain values. Times are seconds on the host's clock and never go back; sizes are tokens. A turn's events come in the order
Arrived, (Placed), FirstToken, then Ended or Failed; any of the later ones may be missing, and one for a turn that is not
known does nothing.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Admit",
    "Arrived",
    "CacheNews",
    "CachesSeen",
    "Declared",
    "Drop",
    "Ended",
    "Event",
    "Failed",
    "FirstToken",
    "Hold",
    "Instruction",
    "Placed",
    "Reason",
    "Released",
    "Replaced",
    "ReplicaGone",
    "ReplicaSeen",
    "RunEnded",
    "Share",
    "Tick",
    "Turn",
    "Warm",
]


@dataclass(frozen=True, slots=True)
class Share:
    """A session whose last prompt, as far as it is known, begins with the same tokens as this one."""

    session: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a client says of the future with a turn. It may be wrong; `Trust` measures how often.

    Attributes:
        gap_s: from the answer to the session's next turn; None: none comes.
        gap_said: whether `gap_s` was said at all.
        remaining_s: from now to the end of the task, without contention, on the longest way; None: not said.
    """

    gap_s: float | None = None
    remaining_s: float | None = None
    gap_said: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A model call that wants to be served.

    Attributes:
        program: the AgentProgram's name.
        shares: the session itself first, where it was here before; then others (siblings, the parent).
        human: it begins a task: a person's words, no tool's result, and not a sub-agent's.
        side: a title, a token count, a warm-up: never held, and no part of the task.
        priority: higher goes first (InferenceObjective's sense).
        max_hold_s: the program's `maxHold`.
        fork: so many sessions are declared that have not come yet and will begin with this prompt, or with most of it.
    """

    id: str
    program: str
    run: str
    session: str
    prompt_tokens: int
    shares: tuple[Share, ...] = ()
    human: bool = False
    side: bool = False
    priority: int = 0
    max_hold_s: float = 300.0
    declared: Declared | None = None
    fork: int = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    turn: Turn


@dataclass(frozen=True, slots=True)
class Placed:
    """The picker chose another replica than the one that was asked for."""

    turn_id: str
    replica: str


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The answer has begun: the prompt is computed. `timed`: seen, and not only supposed, so that its time teaches something."""

    turn_id: str
    timed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A turn has its answer.

    Attributes:
        cached_tokens: of the prompt, as the engine reports it; None: it did not.
    """

    turn_id: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer: the client went away, the replica died, or the turn was refused. A held one is forgotten."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class Released:
    """A held turn goes now, whatever it waits for: the host only watches, or stops holding."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """A held turn came again, from its own client: the new one waits in its place, and until the same time."""

    turn_id: str
    by: Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSeen:
    """A replica is there and takes turns. Said again when something of it changes.

    Attributes:
        capacity_tokens: what its KV cache holds.
        max_seqs: how many requests it runs at the same time.
    """

    name: str
    capacity_tokens: int
    max_seqs: int = 256


@dataclass(frozen=True, slots=True)
class ReplicaGone:
    """A replica takes no more turns, and what it held is lost. Its turns in flight fail one by one, or end."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheNews:
    """What an engine published of its device cache since the last time.

    Attributes:
        stored_tokens, removed_tokens: of full blocks that can be hit, or not any more; after the clearing, if there was one.
        block_tokens: of one block; 0: no block was stored yet.
        cleared: it was emptied, or its engine started again.
        gap: news were missed, as before the first ones: what is stored may have come from any turn.
        loads: what a turn finds cached may come from elsewhere (a host tier, a prefill pod) and is stored here again.
    """

    replica: str
    stored_tokens: int = 0
    removed_tokens: int = 0
    block_tokens: int = 0
    cleared: bool = False
    gap: bool = False
    loads: bool = False


@dataclass(frozen=True, slots=True)
class CachesSeen:
    """News of caches, of any number of replicas; of unknown ones they are ignored."""

    news: tuple[CacheNews, ...]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run said that it is over, or was idle for too long."""

    run: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: `Scheduler.wake_s` came."""


Event = (
    Arrived
    | Placed
    | FirstToken
    | Ended
    | Failed
    | Released
    | Replaced
    | ReplicaSeen
    | ReplicaGone
    | CachesSeen
    | RunEnded
    | Tick
)


class Reason(StrEnum):
    """Why a turn goes where it goes, or waits. Stable: metrics and `explain` show them."""

    SIDE = "SideRequest"  # never held
    ONLY = "NoReplica"  # nothing is known of any replica: the picker decides
    WARM = "PrefixIsThere"
    ROOM = "CacheHasRoom"
    BUDGET = "RecomputeIsCheap"
    OVERFLOW = "HeldLongEnough"
    NO_ROOM = "WaitsForRoom"
    PREFILL = "WaitsForPrefill"
    SIBLING = "WaitsForSibling"
    SPREAD = "SpreadsPrefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Let a turn go.

    Attributes:
        replica: where to; None: wherever the picker wants.
        uncached_tokens: of the prompt, what will probably be computed.
        held_s: how long it waited here.
    """

    turn_id: str
    replica: str | None
    reason: Reason
    uncached_tokens: int
    held_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Keep a turn; it will be admitted by `until_s`."""

    turn_id: str
    until_s: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Drop:
    """A session is over: what replicas hold of it is worth nothing any more."""

    session: str
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Let a further replica compute the prompt of a turn that was just admitted elsewhere: its siblings are to come.

    No turn of anybody's: it asks for one token, and its answer is thrown away. The host tells its end, `Ended` or
    `Failed`, under its own `id`, and soon: until then siblings may wait for it. `Failed` at once, where it cannot be done.

    Attributes:
        uncached_tokens: what will probably be computed.
        siblings: that are expected, which is what it is done for.
    """

    turn_id: str
    replica: str
    uncached_tokens: int
    siblings: int

    @property
    def id(self) -> str:
        return f"{self.turn_id}+{self.replica}"


Instruction = Admit | Hold | Warm | Drop
