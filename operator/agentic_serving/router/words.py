"""What the router's parts say to each other. Plain values: seconds on one monotonic clock, sizes in tokens unless named.

`processor` and `access_log` bring what Envoy says, `pods` what the cluster says, `declarations` what applications say; the
`desk` answers with words for calls and tells listeners (metrics, history, spans) what it did, as notes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agentic_serving.program.identity import TurnKind

__all__ = [
    "Began",
    "Call",
    "Came",
    "Cause",
    "Closed",
    "Decided",
    "Declaration",
    "Done",
    "Go",
    "Host",
    "Listener",
    "Note",
    "Over",
    "Pod",
    "Refuse",
    "TaskDone",
    "Usage",
    "Wait",
    "WarmUp",
    "WarmedUp",
    "Word",
]

# What comes in


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as Envoy showed it.

    Attributes:
        id: `x-request-id`, made by our Envoy: unique.
        path: with its query.
        headers: by lower-case name; the edge has removed what only we may set.
        body: JSON text, as it came. Empty: there is none.
        complete: False: the body is longer than we read; what is here of it, if anything, is not parsed.
    """

    id: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the access log says of an answered call. None: the engine did not say.

    Attributes:
        endpoint: `ip:port` of the pod that answered; empty: none did.
        status: HTTP status, 0 if the client left before there was one.
        aborted: the answer broke off, by whichever side.
    """

    call_id: str
    endpoint: str = ""
    status: int = 0
    aborted: bool = False
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """An engine pod that the picker knows.

    Attributes:
        endpoint: `ip:port`.
        ready: its Ready condition.
        draining: it is being deleted, or marked to go.
        capacity_tokens: its KV cache, as the engine's metrics say; None: not known yet.
        max_seqs: requests that it runs at the same time.
        running, waiting: requests in the engine, when last asked.
    """

    name: str
    endpoint: str
    role: Literal["Aggregated", "Prefill", "Decode"]
    ready: bool
    draining: bool = False
    capacity_tokens: int | None = None
    max_seqs: int | None = None
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What an application says of a session through the hint endpoint (docs/hints.md).

    Attributes:
        program, session: as its requests name them: the id that the application sends, not our name for it.
        fork: so many children are about to start from this session's context.
        join: the children that were declared are done.
        tool_s: the session's next turn comes in about so many seconds.
        remaining_s: to the end of the task, without contention.
        finished: no further turn comes.
    """

    program: str
    session: str
    fork: int | None = None
    join: bool = False
    tool_s: float | None = None
    remaining_s: float | None = None
    finished: bool = False


# What goes out: exactly one Go or Refuse for every call in the end, at most one Wait before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """Let a call go on to the picker.

    Attributes:
        endpoints: the subset hint, `ip:port` of pods among which the picker chooses; empty: no hint.
        others: the hint for when those could not be reached; empty: none.
        headers: to set on the request: the picker's dialect.
        body: what replaces the body; None: it stays.
    """

    call_id: str
    endpoints: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Hold a call. `until_s`: when it will have been let go at the latest."""

    call_id: str
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer a call ourselves, in the API's own error format.

    Attributes:
        status: 429 where the bound of the queue is reached; 409 where the client's own retry has replaced it.
        retry_after_s: whole seconds for `Retry-After`; 0: no such header.
    """

    call_id: str
    status: int
    message: str
    retry_after_s: int = 0


Word = Go | Wait | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """A prompt that a pod is to compute before anybody asks it there. No word for a call: nothing waits for it.

    Attributes:
        id: by which the desk is told of its end.
        endpoint: `ip:port` of the pod, which is asked itself: no Envoy, no picker and no scheduler sees it as a call.
        headers: those of the call that the engine may need.
        body: the call's, but for one token and in one piece.
    """

    id: str
    endpoint: str
    path: str
    headers: Mapping[str, str]
    body: bytes


# What listeners hear

#: Why tokens that had been computed before were computed again.
Cause = Literal["Evicted", "OtherReplica", "Compaction", "Edit", "DroppedReasoning", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """A model call, attributed.

    Attributes:
        parent: the session that started this one.
        traceparent: W3C trace context that the client sent; untrusted text.
    """

    call_id: str
    program: str
    run: str
    session: str
    parent: str | None
    client: str
    api: str
    model: str
    kind: TurnKind
    side: str
    turn: int
    confidence: float
    prompt_tokens: int  # estimated
    new_tokens: int
    reused_tokens: int  # that the session graph knows; not all need be cached
    divergence: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of a call, and why. `verdict`: Hold is followed by a second one; Observe says what Enforce would do.

    Attributes:
        reason: of `program.events.Reason`, or `QueueFull`, `ReplacedByRetry`, `NotParsed`, `Observing`.
        replica: the pod's name; empty: the picker chooses.
        uncached_tokens: what will probably be computed.
    """

    call_id: str
    verdict: Literal["Admit", "Hold", "Refuse"]
    reason: str
    replica: str = ""
    uncached_tokens: int = 0
    held_s: float = 0.0
    because: str = ""  # one sentence for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The answer began: of a stream, its first token. Nobody sees an answer in one piece begin.

    `replica`: the pod that it was sent to, if any.
    """

    call_id: str
    status: int
    replica: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call has ended.

    Attributes:
        estimated: no usage came, so the tokens are our guess.
        expected_cached_tokens: what was predicted when it was admitted.
        recomputed: tokens that had been computed before, by cause.
    """

    call_id: str
    outcome: Literal["Answered", "Failed", "ClientLeft", "Refused"]
    replica: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated: bool
    expected_cached_tokens: int
    recomputed: Mapping[Cause, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDone:
    """A person's words have their answer: told when the next human turn comes, the run ends, or 60 s passed.

    Attributes:
        alone_s: what the task would have taken without contention, as far as it can be told.
    """

    program: str
    run: str
    took_s: float
    alone_s: float
    held_s: float
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A session is over, or the run, if both have one name."""

    session: str
    run: str
    program: str
    why: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Time between two turns of a session: what followed the answer, and how long it took."""

    session: str
    program: str
    kind: Literal["tool", "human"]
    gap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedUp:
    """A warm-up is over. `outcome`: Refused where it was not even begun: too many are under way, or nobody can do it.

    `computed_tokens`: of the prompt; our guess where the engine does not say.
    """

    call_id: str
    program: str
    replica: str
    outcome: Literal["Done", "Failed", "Refused"]
    computed_tokens: int


Note = Came | Decided | Began | Done | TaskDone | Over | Closed | WarmedUp


class Listener(Protocol):
    """Hears notes in the order in which they happened. It must not raise, and not take long: it is in the request path."""

    def hear(self, note: Note, now_s: float) -> None: ...


class Host(Protocol):
    """What the desk is to those who bring it news. Every method returns words for calls, others' included."""

    @property
    def wake_s(self) -> float | None:
        """When to `tick` if nothing happens before."""
        ...

    def arrive(self, call: Call, now_s: float) -> Sequence[Word]: ...

    def first_token(self, call_id: str, now_s: float) -> Sequence[Word]:
        """The first piece of a stream's content came. Engines send headers before they have computed the prompt."""
        ...

    def closed(self, call_id: str, now_s: float) -> Sequence[Word]:
        """The call's stream has ended: answered, broken off, or left by the client while it was held."""
        ...

    def usage(self, usage: Usage, now_s: float) -> Sequence[Word]: ...

    def pods(self, pods: Sequence[Pod], now_s: float) -> Sequence[Word]:
        """All pods, whenever something of them has changed."""
        ...

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        """Whether the session is known."""
        ...

    def tick(self, now_s: float) -> Sequence[Word]: ...
