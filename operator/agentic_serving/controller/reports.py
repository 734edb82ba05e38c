"""What program schedulers say of themselves and of programs, as conditions and figures of statuses. Pure.

A scheduler reports as `GET /v1/programs` (docs/observability.md). What it says is read as input from outside: anything
that is not as expected counts as not said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentic_serving.api.conditions import Reason
from agentic_serving.api.program import CompletionTimes
from agentic_serving.api.quantities import format_duration
from agentic_serving.render.network import MONITORING_LABEL

__all__ = ["Figures", "PodAnswer", "StackReport", "figures_of", "stack_report"]

#: Beyond it a program counts as idle, and its status stays as it is until the scheduler's window is empty. Two looks.
IDLE_S = 120.0
_PERCENTILES = ("p50", "p95", "p99")
#: Of what a scheduler says in words; conditions may have 32,768.
_MAX_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAnswer:
    """What became of asking one router pod.

    Attributes:
        outcome: Answered; Silent: connected or refused, so the way there is open; Starting: the same, of a container that
            has only begun; Unreachable: no connection; Failing: the container does not run.
        said: the answer, or in words what happened.
    """

    pod: str
    outcome: Literal["Answered", "Silent", "Starting", "Unreachable", "Failing"]
    said: Mapping[str, Any] | str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one stack measured of one program; None: nothing of it in the window.

    Attributes:
        completion: rounded.
        attainment, first_token_attainment: whole percent, rounded down: 94.9 is not yet 95.
        recompute: whole percent.
    """

    completion: CompletionTimes | None = None
    attainment: int | None = None
    first_token_attainment: int | None = None
    recompute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackReport:
    """What is known of a stack's scheduler. `healthy`: None in `holds` is unknown."""

    holds: bool | None
    reason: Reason
    message: str
    programs: Mapping[str, Figures]


def stack_report(answers: Sequence[PodAnswer], before: Mapping[str, Figures]) -> StackReport:
    """Condition and figures from the answers of a stack's router pods, in any order; `before`: the figures until now."""
    said = {a.pod: a.said for a in answers if a.outcome == "Answered" and not isinstance(a.said, str)}
    active = next((data for _, data in sorted(said.items()) if data.get("active") is True), None)
    if active is not None:
        works, reason, message = _store(active)
        return StackReport(holds=works, reason=reason, message=message, programs=figures_of(active, before))
    holds, reason, message = _trouble(answers, answered=bool(said))
    return StackReport(holds=holds, reason=reason, message=message, programs=before)


def _store(active: Mapping[str, Any]) -> tuple[bool, Reason, str]:
    problem = active.get("store_problem")
    if not isinstance(problem, str) or not problem:
        return True, Reason.SERVING, "the active scheduler answers"
    lost = "it schedules with what it knows, and a restart forgets that"
    message = f"{problem[:_MAX_CHARS]}; {lost}; see spec.programScheduling.state"
    return False, Reason.STATE_STORE_UNAVAILABLE, message


def _trouble(answers: Sequence[PodAnswer], *, answered: bool) -> tuple[bool | None, Reason, str]:
    without = "requests go on without it"
    if answered:
        return False, Reason.NO_ACTIVE_SCHEDULER, f"no scheduler is the active one; {without}"
    down = min((a for a in answers if a.outcome in ("Failing", "Silent")), key=lambda a: a.pod, default=None)
    if down is not None:
        message = f"pod {down.pod}: {down.said}; {without}; read the log of its container scheduler"
        return False, Reason.SCHEDULER_DOWN, message
    if not answers:
        return None, Reason.ROUTER_UNAVAILABLE, "there is no router pod to ask"
    far = min(answers, key=lambda a: a.pod)
    message = f"pod {far.pod}: {far.said}; for the operator to get through, label its namespace {MONITORING_LABEL}=enabled"
    return None, Reason.SCHEDULER_UNREACHABLE, message


def figures_of(report: Mapping[str, Any], before: Mapping[str, Figures]) -> Mapping[str, Figures]:
    """Figures by program's name. A program that idles keeps those it had, so that no status is written."""
    found: dict[str, Figures] = {}
    entries = report.get("programs")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            continue
        idle_s, old = _number(entry.get("last_turn_s_ago")), before.get(entry["name"])
        fresh = _figures(entry)
        idle = idle_s is not None and idle_s > IDLE_S and fresh.completion is not None
        found[entry["name"]] = old if old is not None and idle else fresh
    return found


def _figures(entry: Mapping[str, Any]) -> Figures:
    return Figures(
        completion=_completion(entry.get("completion_s")),
        attainment=_percent(entry.get("attainment_percent"), math.floor),
        first_token_attainment=_percent(entry.get("first_token_attainment_percent"), math.floor),
        recompute=_percent(entry.get("recompute_percent"), round),
    )


def _completion(given: object) -> CompletionTimes | None:
    if not isinstance(given, Mapping):
        return None
    seconds = {name: _number(given.get(name)) for name in _PERCENTILES}
    said = {name: format_duration(_rounded(value)) for name, value in seconds.items() if value is not None}
    return CompletionTimes(**said) if len(said) == len(_PERCENTILES) else None


def _rounded(seconds: float) -> float:
    """Two digits that matter, so that a status changes when the figure does: 83 s is 83 s, 842 s is 14 min."""
    if seconds < 1:
        return round(seconds, 2)
    digits = 1 - math.floor(math.log10(seconds))
    return round(min(seconds, 1e7), digits)


def _percent(given: object, whole: Any) -> int | None:  # noqa: ANN401 - math.floor or round
    number = _number(given)
    return None if number is None else min(100, int(whole(number)))


def _number(given: object) -> float | None:
    """A finite number that is not negative."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if math.isfinite(given) and given >= 0 else None
