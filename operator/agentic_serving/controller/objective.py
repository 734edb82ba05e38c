"""What the schedulers measured of a program, as its status: figures, SLOMet, SignalsHealthy. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentic_serving.api.conditions import ProgramCondition, Reason
from agentic_serving.api.program import AgentProgram, AgentStatus
from agentic_serving.api.validate import dump
from agentic_serving.controller.board import StackView
from agentic_serving.controller.keys import Key
from agentic_serving.controller.reports import Figures, StackReport
from agentic_serving.controller.status import Draft

__all__ = ["tell_objective"]

Seen = Mapping[Key, tuple[StackView, StackReport | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Goal:
    """One target. `reached`: whole percent of those that met it, of the worst stack; None: nothing measured."""

    words: str
    wanted: int
    reached: int | None


def tell_objective(draft: Draft, program: AgentProgram, seen: Seen) -> None:
    """Everything that rests on measurement; each stack with its view and its scheduler's last report.

    Nothing before all were asked: what was said before the operator started stays, as a restart is no news.
    """
    if any(report is None and view.scheduling != "Off" for view, report in seen.values()):
        return
    name = program.metadata.name
    figures = {
        stack: report.programs[name]
        for stack, (_, report) in seen.items()
        if report is not None and name in report.programs
    }
    _signals(draft, seen)
    _slo(draft, tuple(_goals(program, figures)), why_not=_unmeasured(seen))
    several = len(seen) > 1
    completion = next((one.completion for one in figures.values() if one.completion is not None), None)
    draft.fields |= {
        "completion": dump(completion) if completion is not None and not several else None,
        "attainmentPercent": min(_known(one.attainment for one in figures.values()), default=None),
        "recomputePercent": max(_known(one.recompute for one in figures.values()), default=None),
        "byAgent": [dump(one) for one in _agents(program, figures)] or None if several else None,
    }


def _known(values: Iterator[int | None]) -> Iterator[int]:
    return (value for value in values if value is not None)


def _agents(program: AgentProgram, figures: Mapping[Key, Figures]) -> Iterator[AgentStatus]:
    by_name = {stack.name: one for stack, one in figures.items()}
    for agent in program.spec.agents:
        one = by_name.get(agent.stack_ref.name)
        if one is not None:
            yield AgentStatus(
                name=agent.name,
                completion=one.completion,
                attainment_percent=one.attainment,
                recompute_percent=one.recompute,
            )


def _signals(draft: Draft, seen: Seen) -> None:
    """One stack that does not report is enough: the figures are not of all requests."""
    holds: bool | None = True
    reason, message = Reason.SERVING, "the schedulers of all its stacks report"
    for stack, (view, report) in sorted(seen.items()):
        if view.scheduling == "Off":
            holds, reason = None, Reason.SCHEDULING_OFF
            message = f"programScheduling.mode of stack {stack.name} is Off, so nothing measures"
        elif report is not None and report.holds is not True:
            holds, reason, message = report.holds, report.reason, f"stack {stack.name}: {report.message}"
        if holds is not True:
            break
    draft.set(ProgramCondition.SIGNALS_HEALTHY, holds=holds, reason=reason, message=message)


def _unmeasured(seen: Seen) -> str:
    if all(view.scheduling == "Off" for view, _ in seen.values()):
        return "programScheduling.mode is Off, so nothing measures"
    return "nothing in the last hour to measure"


def _slo(draft: Draft, goals: tuple[_Goal, ...], *, why_not: str) -> None:
    measured = [goal for goal in goals if goal.reached is not None]
    missed = [goal for goal in measured if goal.reached is not None and goal.reached < goal.wanted]
    told = "; ".join(f"{goal.words}: {goal.reached} % did in the last hour" for goal in missed or measured)
    if missed:
        draft.set(ProgramCondition.SLO_MET, holds=False, reason=Reason.OBJECTIVE_MISSED, message=told)
    elif measured:
        draft.set(ProgramCondition.SLO_MET, holds=True, reason=Reason.OBJECTIVE_MET, message=told)
    else:
        said = (
            f"{why_not}: {', '.join(goal.words for goal in goals)}"
            if goals
            else "the program states no objective"
        )
        draft.set(ProgramCondition.SLO_MET, holds=None, reason=Reason.NOT_MEASURED, message=said)


def _goals(program: AgentProgram, figures: Mapping[Key, Figures]) -> Iterator[_Goal]:
    """The objective in words, so that the status shows what was understood, with what was reached."""
    objective, seen = program.spec.objective, figures.values()
    if objective.completion is not None:
        given = objective.completion
        yield _Goal(
            words=f"{given.percentile} of {given.unit.lower()}s complete within {given.target}",
            wanted=int(given.percentile[1:]),
            reached=min(_known(one.attainment for one in seen), default=None),
        )
    if objective.first_token_after_tool is not None:
        latency = objective.first_token_after_tool
        yield _Goal(
            words=f"{latency.percentile} of first tokens after a tool come within {latency.target}",
            wanted=int(latency.percentile[1:]),
            reached=min(_known(one.first_token_attainment for one in seen), default=None),
        )
