"""Condition types, reasons, and the rules by which conditions change. The table of docs/conditions.md is made from here.

Polarity follows kstatus: everything is good when True, except `Reconciling`, `Stalled` and `Overlapping`, which
are abnormal when True. `Ready` is always present; `Stalled` is True only where no retry helps and a person must act.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from agentic_serving.api.base import ApiModel, Condition
from agentic_serving.api.reasons import Reason
from agentic_serving.clock import timestamp

__all__ = [
    "ConditionType",
    "PolicyCondition",
    "ProgramCondition",
    "Reason",
    "StackCondition",
    "Status",
    "find_condition",
    "is_true",
    "same_status",
    "set_condition",
]

Status = Literal["True", "False", "Unknown"]

#: As `Condition.message`; the API server would refuse the whole status beyond it.
_MAX_MESSAGE_CHARS = 2048
_CUT = "..."


class ConditionType(StrEnum):
    """Base of the condition types: the word on the wire, what True means, and whether True is bad news."""

    doc: str
    abnormal_true: bool

    def __new__(cls, word: str, doc: str = "", abnormal_true: bool = False) -> Self:  # noqa: FBT001, FBT002 - enum members are tuples
        member = str.__new__(cls, word)
        member._value_ = word
        member.doc = doc
        member.abnormal_true = abnormal_true
        return member


class StackCondition(ConditionType):
    """Conditions of an AgenticServingStack."""

    READY = "Ready", "The stack serves: it is accepted, applied, and enough of its pods answer."
    ACCEPTED = "Accepted", "The spec and everything it refers to are valid and can be carried out."
    APPLIED = "Applied", "Every object of the stack is in the cluster as the spec asks."
    AVAILABLE = "Available", "Each engine role has at least one ready replica, or is asked to have none."
    ROUTER_READY = "RouterReady", "At least one router pod is ready."
    SCHEDULER_HEALTHY = (
        "SchedulerHealthy",
        "The active program scheduler answers. Where it does not, requests go on without it, and Ready stays as it is.",
    )
    RECONCILING = "Reconciling", "The operator is working towards the spec, or pods are still starting.", True
    STALLED = "Stalled", "Nothing happens until somebody changes the object or what it refers to.", True


class ProgramCondition(ConditionType):
    """Conditions of an AgentProgram."""

    READY = "Ready", "The routers of all stacks that the program names recognise its requests."
    ACCEPTED = "Accepted", "The spec is valid and the stacks that it names exist."
    OVERLAPPING = (
        "Overlapping",
        "Another program of the same stack matches some of the same requests; the message says which wins.",
        True,
    )
    SLO_MET = "SLOMet", "The objective is met, over the last hour. Unknown until it is measured."
    SIGNALS_HEALTHY = "SignalsHealthy", "The program schedulers of all its stacks report what they measure."
    RECONCILING = "Reconciling", "The operator is working towards the spec.", True
    STALLED = "Stalled", "Nothing happens until somebody changes the object or what it refers to.", True


class PolicyCondition(ConditionType):
    """Conditions of a KVTierPolicy."""

    READY = "Ready", "The policy is accepted, and enforced wherever a stack refers to it."
    ACCEPTED = "Accepted", "The spec is valid."
    ENFORCED = "Enforced", "Every stack that refers to the policy carries all of it out."
    RECONCILING = "Reconciling", "The operator is working towards the spec.", True
    STALLED = "Stalled", "Nothing happens until somebody changes the object or what it refers to.", True


#: One order for all kinds, so that a status does not depend on the history that led to it.
_ORDER = {
    word: i
    for i, word in enumerate(
        dict.fromkeys(
            str(member)
            for kind in (StackCondition, ProgramCondition, PolicyCondition)
            for member in kind
            if member not in ("Reconciling", "Stalled")
        )
    )
} | {"Reconciling": 100, "Stalled": 101}


def set_condition(
    conditions: Iterable[Condition],
    *,
    type: str,  # noqa: A002 - the field's name in metav1.Condition
    status: Status,
    reason: str,
    message: str = "",
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions with one of them replaced or added, in canonical order.

    `lastTransitionTime` moves only when `status` changes. A message that is too long is cut.
    """
    others = tuple(c for c in conditions if c.type != type)
    old = find_condition(conditions, type)
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[: _MAX_MESSAGE_CHARS - len(_CUT)] + _CUT
    flipped = old is None or old.status != status
    new = Condition(
        type=str(type),
        status=status,
        observed_generation=generation,
        last_transition_time=timestamp(now) if flipped or old is None else old.last_transition_time,
        reason=str(reason),
        message=message,
    )
    return tuple(sorted((*others, new), key=lambda c: (_ORDER.get(c.type, len(_ORDER)), c.type)))


def find_condition(conditions: Iterable[Condition], type: str) -> Condition | None:  # noqa: A002 - as above
    """The condition of that type, if it is there."""
    return next((c for c in conditions if c.type == type), None)


def is_true(conditions: Iterable[Condition], type: str, *, generation: int | None = None) -> bool:  # noqa: A002 - as above
    """Whether the condition is True and, with `generation`, was computed from that generation."""
    found = find_condition(conditions, type)
    if found is None or found.status != "True":
        return False
    return generation is None or found.observed_generation == generation


def same_status(a: ApiModel | Mapping[str, Any], b: ApiModel | Mapping[str, Any]) -> bool:
    """Whether two statuses say the same: times of transition, empty fields and the order of lists do not count.

    All lists of a status are sets or maps by key, and server-side apply may keep an order of its own.
    """
    return _essence(_plain(a)) == _essence(_plain(b))


def _plain(value: ApiModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, ApiModel) else value


def _essence(value: object) -> object:
    if isinstance(value, Mapping):
        # Sorted: below, lists are ordered by how their items print, and equal items must print alike.
        kept = {k: _essence(v) for k, v in sorted(value.items()) if k != "lastTransitionTime"}
        return {k: v for k, v in kept.items() if v not in (None, "", [], {})}
    if isinstance(value, list | tuple):
        return sorted((_essence(v) for v in value), key=repr)
    return value
