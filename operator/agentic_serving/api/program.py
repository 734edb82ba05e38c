"""AgentProgram: a class of agentic application, how its requests are recognised, and what matters to it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import (
    SHORT_NAME,
    ApiModel,
    ApiObject,
    CelRule,
    Conditions,
    DnsLabel,
    DurationString,
    Generation,
    HeaderName,
    HoldString,
    LocalReference,
)

__all__ = [
    "DEFAULT_PROGRAM",
    "Agent",
    "AgentProgram",
    "AgentProgramSpec",
    "AgentProgramStatus",
    "AgentStatus",
    "Client",
    "CompletionObjective",
    "CompletionTimes",
    "HeaderMatch",
    "Identity",
    "IdentityHeaders",
    "LatencyObjective",
    "Match",
    "Objective",
    "Percentile",
]

#: The program of every request that no AgentProgram matches.
DEFAULT_PROGRAM = "default"

Client = Literal["ClaudeCode", "Codex", "OpenCode"]
Percentile = Literal["P50", "P90", "P95", "P99"]
#: A measured time, rounded, as a Gateway API duration: `1m20s`.
Figure = Annotated[str, Field(max_length=32)]
Percent = Annotated[int, Field(ge=0, le=100)]


class Agent(ApiModel):
    """One agent of the program and the stack that serves it."""

    name: DnsLabel
    """Name of the agent, unique in the program."""
    stack_ref: LocalReference
    """The AgenticServingStack, in the same namespace, that serves this agent's calls."""


class HeaderMatch(ApiModel):
    """A request header that must be present with a value, as in Gateway API's HTTPRoute."""

    name: HeaderName
    """Name of the header; case does not matter."""
    type: Literal["Exact", "RegularExpression"] = "Exact"
    """How `value` is compared; a regular expression is RE2 and must match the whole value."""
    value: Annotated[str, Field(min_length=1, max_length=256)]
    """The value, or the regular expression."""


class Match(ApiModel):
    """Which requests belong to the program: one of `clients` (if any is named) and all of `headers`."""

    clients: Annotated[
        tuple[Client, ...], Field(max_length=3, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Agent clients recognised by the headers that they send on their own."""
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=8)] = ()
    """Headers that must all match. The program with more of them wins; among equals, the older one."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="(has(self.clients) && size(self.clients) > 0) || (has(self.headers) && size(self.headers) > 0)",
            holds=lambda self: bool(self.clients or self.headers),
            message="name at least one of clients or headers; leave match out to match nothing",
        ),
    )


class IdentityHeaders(ApiModel):
    """Names of the request headers that say which run a request belongs to."""

    session: HeaderName
    """Header whose value is equal for all turns of one session. Requests that share it share one fair queue."""
    parent: HeaderName | None = None
    """Header by which a sub-agent names its parent's session; when a request has it, it counts with the parent."""


class Identity(ApiModel):
    """How runs and sessions of the program are told apart."""

    headers: IdentityHeaders | None = None
    """Identity by request headers. Without them, by the headers that known clients send."""
    idle_timeout: DurationString = "30m"
    """A run from which nothing has come for so long has ended."""


class CompletionObjective(ApiModel):
    """How long a task, or a whole run, may take."""

    percentile: Percentile = "P95"
    """The share of tasks that must meet the target."""
    target: DurationString
    """The time within which they must complete, such as `5m`."""
    unit: Literal["Task", "Run"] = "Task"
    """`Task`: from a human message to the answer that calls no tool. `Run`: from the first to the last turn."""


class LatencyObjective(ApiModel):
    """How long the first token may take."""

    percentile: Percentile = "P95"
    """The share of turns that must meet the target."""
    target: DurationString
    """The time within which the first token must come, such as `2s`."""


class Objective(ApiModel):
    """What the program's users care about."""

    completion: CompletionObjective | None = None
    """Completion time of tasks or runs. Measured and reported in status; nothing acts on it yet."""
    first_token_after_tool: LatencyObjective | None = None
    """Time to the first token of a turn that follows a tool. Measured and reported in status; nothing acts on it yet."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Strict priority in the picker's queue: higher is served first, below 0 is shed first."""
    max_hold: HoldString = "5m"
    """Longest time that the program scheduler may hold a turn back when caches are full. `0s`: turns are never held."""


class AgentProgramSpec(ApiModel):
    """What the user asks for."""

    agents: Annotated[
        tuple[Agent, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """The agents of the program: one for a loop, several for a pipeline that spans stacks."""
    match: Match | None = None
    """Which requests belong to the program. Without it no request does."""
    identity: Identity | None = None
    """How its runs are told apart, and when one has ended."""
    objective: Objective = Objective()
    """What the program's users care about."""


class CompletionTimes(ApiModel):
    """How long tasks, or runs, took in the last hour: as `objective.completion.unit` says, else tasks."""

    p50: Figure
    """Half of them took at most so long."""
    p95: Figure
    """95 of 100 took at most so long."""
    p99: Figure
    """99 of 100 took at most so long."""


class AgentStatus(ApiModel):
    """What the scheduler of one agent's stack measured."""

    name: DnsLabel
    """The agent."""
    completion: CompletionTimes | None = None
    """How long its tasks took."""
    attainment_percent: Percent | None = None
    """Share of them that met the target."""
    recompute_percent: Percent | None = None
    """Share of its prompt tokens that had been computed before and were computed again."""


class AgentProgramStatus(ApiModel):
    """What the operator reports."""

    observed_generation: Generation = 0
    """The `metadata.generation` that this status was computed from."""
    conditions: Conditions = ()
    """Ready, Accepted, Overlapping, SLOMet, SignalsHealthy, Reconciling, Stalled."""
    completion: CompletionTimes | None = None
    """How long tasks took in the last hour. Absent where none completed, and where several stacks serve the program."""
    attainment_percent: Percent | None = None
    """Share of them that met `objective.completion.target`; the lowest of all stacks."""
    recompute_percent: Percent | None = None
    """Share of prompt tokens that had been computed before and were computed again; the highest of all stacks."""
    by_agent: Annotated[
        tuple[AgentStatus, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """The same for each agent, where several stacks serve the program."""


class AgentProgram(ApiObject):
    """A class of agentic application: the agents it consists of, how its requests are recognised, its objective."""

    spec: AgentProgramSpec
    status: AgentProgramStatus = AgentProgramStatus()

    cel_rules: ClassVar[tuple[CelRule, ...]] = (SHORT_NAME,)
