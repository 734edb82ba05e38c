"""An AgentProgram: whether the routers of all its stacks know it. Reads the board; renders nothing."""

from collections.abc import Sequence

from agentic_serving.api.conditions import ProgramCondition, Reason
from agentic_serving.api.findings import Finding, errors, summarise
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.validate import parse
from agentic_serving.cluster.port import Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.board import Board, ProgramView, StackView
from agentic_serving.controller.keys import Key
from agentic_serving.controller.objective import tell_objective
from agentic_serving.controller.schedulers import Reports
from agentic_serving.controller.status import Draft

__all__ = ["draft_program"]


def draft_program(
    key: Key, raw: Manifest, store: ObjectStore, board: Board, reports: Reports
) -> Draft | None:
    """What to say about a program; None while one of its stacks has not been looked at."""
    draft = Draft(types=tuple(map(str, ProgramCondition)))
    program, findings = parse(AgentProgram, raw)
    if program is None or errors(findings):
        _refuse(draft, findings)
        return draft
    stacks = sorted(
        {Key("AgenticServingStack", key.namespace, a.stack_ref.name) for a in program.spec.agents}
    )
    missing = [s for s in stacks if store.get(s.resource, s.namespace, s.name) is None]
    if missing:
        _miss(draft, missing)
        return draft
    views = [(stack, board.get(stack)) for stack in stacks]
    looked_at = [(stack, view) for stack, view in views if view is not None]
    if len(looked_at) < len(views):
        return None
    _judge(draft, key, program, looked_at)
    tell_objective(draft, program, {stack: (view, reports.get(stack)) for stack, view in looked_at})
    return draft


def _refuse(draft: Draft, findings: Sequence[Finding]) -> None:
    wrong = errors(findings)
    reason, message = wrong[0].reason, summarise(wrong)
    draft.set(ProgramCondition.ACCEPTED, holds=False, reason=reason, message=message)
    draft.set(ProgramCondition.READY, holds=False, reason=reason, message=message)
    draft.set(ProgramCondition.RECONCILING, holds=False, reason=reason)
    draft.set(ProgramCondition.STALLED, holds=True, reason=reason, message=message)


def _miss(draft: Draft, missing: Sequence[Key]) -> None:
    """Stacks may come later, in any order."""
    reason = Reason.STACK_NOT_FOUND
    names = ", ".join(stack.name for stack in missing)
    message = f"no AgenticServingStack named {names} in this namespace; create it or correct spec.agents"
    draft.set(ProgramCondition.ACCEPTED, holds=False, reason=reason, message=message)
    draft.set(ProgramCondition.READY, holds=False, reason=reason, message=message)
    draft.set(ProgramCondition.RECONCILING, holds=True, reason=reason, message=message)
    draft.set(ProgramCondition.STALLED, holds=False, reason=reason)


def _judge(draft: Draft, key: Key, program: AgentProgram, views: Sequence[tuple[Key, StackView]]) -> None:
    """All its stacks exist and have been looked at."""
    seen = [(stack, view.programs[key]) for stack, view in views if key in view.programs]
    refused = next((s for _, s in seen if not s.accepted), None)
    if refused is not None:
        _refuse(draft, [Finding(path="spec.match", reason=refused.reason, message=refused.message)])
        return
    draft.set(ProgramCondition.ACCEPTED, holds=True, reason=Reason.ACCEPTED, message="the spec is valid")
    draft.set(ProgramCondition.STALLED, holds=False, reason=Reason.UP_TO_DATE)
    _overlaps(draft, seen)
    behind = _behind(key, program, views)
    if behind is not None:
        reason, message = behind
        draft.set(ProgramCondition.READY, holds=False, reason=reason, message=message)
        draft.set(ProgramCondition.RECONCILING, holds=True, reason=reason, message=message)
        return
    reason, message = (
        Reason.READY,
        "the routers of all its stacks know it; running ones read it within about a minute",
    )
    if program.spec.match is None:
        reason, message = Reason.NO_MATCH, "spec.match is not set, so no request belongs to the program"
    draft.set(ProgramCondition.READY, holds=True, reason=reason, message=message)
    draft.set(ProgramCondition.RECONCILING, holds=False, reason=Reason.UP_TO_DATE)


def _behind(
    key: Key, program: AgentProgram, views: Sequence[tuple[Key, StackView]]
) -> tuple[Reason, str] | None:
    """The first stack whose router does not have this very program."""
    for stack, view in views:
        if not view.accepted:
            return Reason.STACK_NOT_ACCEPTED, f"stack {stack.name} is not accepted: {view.reason}"
        mine = view.programs.get(key)
        if mine is None or mine.generation != program.metadata.generation or not view.applied:
            return Reason.PROGRESSING, f"stack {stack.name} is being updated"
        if not view.router_ready:
            return Reason.ROUTER_UNAVAILABLE, f"the router of stack {stack.name} is not ready"
    return None


def _overlaps(draft: Draft, seen: Sequence[tuple[Key, ProgramView]]) -> None:
    found = [f"{', '.join(view.overlaps)} on stack {stack.name}" for stack, view in seen if view.overlaps]
    if found:
        message = f"some requests also match {'; '.join(found)}; the program with more headers wins, then the older one"
        draft.set(ProgramCondition.OVERLAPPING, holds=True, reason=Reason.MATCH_OVERLAP, message=message)
    else:
        draft.set(ProgramCondition.OVERLAPPING, holds=False, reason=Reason.NO_OVERLAP)
