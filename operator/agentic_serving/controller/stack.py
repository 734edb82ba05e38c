"""The steps of a stack: accept, plan, apply, prune, observe. Each takes the pass and says what comes next.

Whatever is wrong with the input ends the pass before `apply`: what ran before keeps running untouched.
"""

from collections.abc import Sequence

from agentic_serving.api.conditions import Reason, StackCondition
from agentic_serving.api.findings import Finding, errors, summarise
from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.stack import AgenticServingStack, ProgramsStatus
from agentic_serving.api.validate import dump, parse
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.apply import NameConflict, apply_all
from agentic_serving.controller.apply import prune as prune_objects
from agentic_serving.controller.board import ProgramView, StackView
from agentic_serving.controller.context import Parts, Problem, StackPass
from agentic_serving.controller.keys import Key
from agentic_serving.controller.observe import Observation, observe
from agentic_serving.controller.outcome import DONE, STOP, Outcome, verdict
from agentic_serving.controller.reports import StackReport
from agentic_serving.controller.troubles import Troubles
from agentic_serving.errors import Bug, Waiting
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.plan import Plan

__all__ = ["StackSteps"]

_UNTOUCHED = "what ran before keeps running"


class StackSteps:
    """The steps over the parts that they share, and how their results are told."""

    def __init__(self, parts: Parts, troubles: Troubles) -> None:
        self._parts = parts
        self._troubles = troubles

    async def accept(self, work: StackPass) -> Outcome:
        """Parse the stack and what it refers to."""
        stack, findings = parse(AgenticServingStack, work.raw)
        work.findings = findings
        if stack is None or errors(findings):
            return _refuse(work, findings)
        work.stack = stack
        work.programs = self._programs(work.key)
        return self._accept_policy(work, stack)

    async def plan(self, work: StackPass) -> Outcome:
        """Render. Pure, and cheap enough to do on every pass that is not at rest."""
        if work.stack is None:
            raise Bug("plan before accept")
        inputs = RenderInputs(
            stack=work.stack,
            programs=work.programs,
            policy=work.policy,
            scheduler_image=self._parts.scheduler_image,
            served=self._parts.served.kinds,
        )
        plan = self._parts.render(inputs)
        work.findings = (*work.findings, *plan.findings)
        if not plan.accepted:
            return _refuse(work, work.findings)
        work.plan = plan
        _accepted(work, plan)
        return DONE

    async def apply(self, work: StackPass) -> Outcome:
        """Apply what differs."""
        try:
            work.problems = await apply_all(self._parts, work, _bodies(_planned(work)))
        except Waiting as error:
            work.superseded = True
            return Outcome(proceed=False, after_s=error.after_s)
        return _outcome_of(work.problems)

    async def prune(self, work: StackPass) -> Outcome:
        """Delete what the plan no longer has."""
        try:
            problems = await prune_objects(self._parts, work, _bodies(_planned(work)))
        except Waiting as error:
            work.superseded = True
            return Outcome(proceed=False, after_s=error.after_s)
        work.problems = [*work.problems, *problems]
        return _outcome_of(problems)

    async def observe(self, work: StackPass) -> Outcome:
        """Say how far the cluster is."""
        plan = _planned(work)
        _applied(work)
        names = [r.deployment for r in plan.roles] + list(plan.supporting)
        live = {
            name: found
            for name in names
            if (found := self._parts.store.get(kinds.DEPLOYMENT, work.namespace, name)) is not None
        }
        troubles, look_s = await self._troubles.of(work.key, live)
        work.observation = observe(plan.roles, plan.supporting, live, troubles)
        _report(work, work.observation)
        _tell_scheduler(work, self._parts.reports.get(work.key))
        return Outcome(after_s=look_s)

    def view(self, work: StackPass) -> StackView:
        """What programs and policies may know of this pass."""
        accepted = work.plan is not None
        why = work.draft.conditions.get(StackCondition.ACCEPTED)
        seen = work.observation
        plan = work.plan
        generations = {(p.metadata.namespace, p.metadata.name): p.metadata.generation for p in work.programs}
        return StackView(
            uid=work.uid,
            accepted=accepted,
            reason=why[1] if why and not accepted else "",
            applied=accepted and seen is not None and not work.problems,
            router_ready=seen is not None and seen.router_ready.holds,
            scheduling=work.stack.spec.program_scheduling.mode if work.stack else "",
            capabilities=plan.capabilities if plan else (),
            programs={
                Key("AgentProgram", p.namespace, p.name): ProgramView(
                    generation=generations[p.namespace, p.name],
                    accepted=p.accepted,
                    reason=p.reason,
                    message=p.message,
                    overlaps=p.overlaps,
                )
                for p in (plan.programs if plan else ())
            },
        )

    def _programs(self, key: Key) -> tuple[AgentProgram, ...]:
        """The programs that refer to the stack. One that is not valid is left out, and says so itself."""
        found: list[AgentProgram] = []
        for referrer in self._parts.references.referrers(key):
            raw = self._parts.store.get(referrer.resource, referrer.namespace, referrer.name)
            if raw is None or "deletionTimestamp" in raw["metadata"]:
                continue
            program, findings = parse(AgentProgram, raw)
            if program is not None and not errors(findings):
                found.append(program)
        return tuple(found)

    def _accept_policy(self, work: StackPass, stack: AgenticServingStack) -> Outcome:
        reference = stack.spec.kv_tier_policy_ref
        if reference is None:
            return DONE
        raw = self._parts.store.get(kinds.POLICY, work.namespace, reference.name)
        if raw is None:
            return _wait_for(
                work, Reason.POLICY_NOT_FOUND, f"KVTierPolicy {reference.name} does not exist; create it"
            )
        policy, findings = parse(KVTierPolicy, raw)
        if policy is None or errors(findings):
            said = summarise(errors(findings))
            return _wait_for(
                work, Reason.POLICY_NOT_ACCEPTED, f"KVTierPolicy {reference.name} is not valid: {said}"
            )
        work.policy = policy
        return DONE


def _planned(work: StackPass) -> Plan:
    if work.plan is None:
        raise Bug("a step that needs the plan ran before it")
    return work.plan


def _bodies(plan: Plan) -> list[Manifest]:
    return [dict(manifest.body) for manifest in plan.manifests]


def _refuse(work: StackPass, findings: Sequence[Finding]) -> Outcome:
    """The user must change something; nothing is touched until then."""
    wrong = errors(findings)
    reason = wrong[0].reason
    message = f"{summarise(wrong)}; {_UNTOUCHED}"
    work.draft.set(StackCondition.ACCEPTED, holds=False, reason=reason, message=message)
    work.draft.set(StackCondition.READY, holds=False, reason=reason, message=message)
    work.draft.set(StackCondition.RECONCILING, holds=False, reason=reason)
    work.draft.set(StackCondition.STALLED, holds=True, reason=reason, message=message)
    return STOP


def _wait_for(work: StackPass, reason: Reason, message: str) -> Outcome:
    """Something is missing that may yet come, in any order: its event brings the stack back."""
    message = f"{message}; {_UNTOUCHED}"
    work.draft.set(StackCondition.ACCEPTED, holds=False, reason=reason, message=message)
    work.draft.set(StackCondition.READY, holds=False, reason=reason, message=message)
    work.draft.set(StackCondition.RECONCILING, holds=True, reason=reason, message=message)
    work.draft.set(StackCondition.STALLED, holds=False, reason=reason)
    return STOP


def _accepted(work: StackPass, plan: Plan) -> None:
    warnings = [f for f in work.findings if f.severity == "Warning"]
    said = f"; note: {summarise(warnings)}" if warnings else ""
    work.draft.set(
        StackCondition.ACCEPTED, holds=True, reason=Reason.ACCEPTED, message=f"the spec is valid{said}"
    )
    work.draft.set(StackCondition.STALLED, holds=False, reason=Reason.UP_TO_DATE)
    work.draft.fields |= {
        "endpoint": plan.endpoint,
        "resolved": dump(plan.resolved),
        "capabilities": [dump(c) for c in plan.capabilities] or None,
        "programs": ProgramsStatus(attached=sum(p.accepted for p in plan.programs)).model_dump(by_alias=True),
    }


def _reason_of(problem: Problem) -> Reason:
    return Reason.NAME_CONFLICT if isinstance(problem.error, NameConflict) else verdict(problem.error).reason


def _applied(work: StackPass) -> None:
    if not work.problems:
        work.draft.set(
            StackCondition.APPLIED,
            holds=True,
            reason=Reason.APPLIED,
            message="all objects are as the spec asks",
        )
        return
    # What a person must repair goes first; what is only on its way goes last.
    ranked = sorted(work.problems, key=lambda p: _reason_of(p) is Reason.PROGRESSING)
    work.draft.set(
        StackCondition.APPLIED,
        holds=False,
        reason=_reason_of(ranked[0]),
        message="; ".join(map(str, ranked))[:1024],
    )


def _report(work: StackPass, seen: Observation) -> None:
    """Conditions and counts from what the Deployments say."""
    draft = work.draft
    draft.set(
        StackCondition.AVAILABLE,
        holds=seen.available.holds,
        reason=seen.available.reason,
        message=seen.available.message,
    )
    draft.set(
        StackCondition.ROUTER_READY,
        holds=seen.router_ready.holds,
        reason=seen.router_ready.reason,
        message=seen.router_ready.message,
    )
    applied = draft.conditions[StackCondition.APPLIED]
    ready = seen.ready
    if applied[0] != "True":
        draft.set(StackCondition.READY, holds=False, reason=applied[1], message=applied[2])
    else:
        draft.set(StackCondition.READY, holds=ready.holds, reason=ready.reason, message=ready.message)
    busy = not ready.holds or applied[0] != "True"
    draft.set(
        StackCondition.RECONCILING,
        holds=busy,
        reason=Reason.PROGRESSING if busy else Reason.UP_TO_DATE,
        message=draft.conditions[StackCondition.READY][2] if busy else "",
    )
    draft.fields |= {
        "replicas": seen.replicas,
        "roles": [role.model_dump(by_alias=True) for role in seen.roles],
    }


def _tell_scheduler(work: StackPass, report: StackReport | None) -> None:
    """What its schedulers said when they were last asked; nothing before that."""
    if work.stack is not None and work.stack.spec.program_scheduling.mode == "Off":
        message = "spec.programScheduling.mode is Off, so there is no scheduler"
        work.draft.set(
            StackCondition.SCHEDULER_HEALTHY, holds=True, reason=Reason.SCHEDULING_OFF, message=message
        )
    elif report is not None:
        work.draft.set(
            StackCondition.SCHEDULER_HEALTHY,
            holds=report.holds,
            reason=report.reason,
            message=report.message,
        )


def _outcome_of(problems: Sequence[Problem]) -> Outcome:
    """Waiting is looked at again; of the rest the first decides, and the back-off covers all."""
    outcome = DONE
    for problem in problems:
        if isinstance(problem.error, Waiting):
            outcome = outcome.then(Outcome(after_s=problem.error.after_s))
        else:
            outcome = outcome.then(Outcome(error=problem.error))
    return outcome
