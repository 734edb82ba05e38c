"""The programs of one stack: what routing must know of them, and what is reported back to each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentic_serving.api.capability import Capability
from agentic_serving.api.findings import Finding, summarise
from agentic_serving.api.matching import Ordering, ProgramRoute, route_of
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.validate import cross_field_findings
from agentic_serving.render.basis import Basis
from agentic_serving.render.gateway import objective, objective_name, objectives_served
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.scheduler import MECHANISM

__all__ = ["ProgramOutcome", "objectives", "outcomes", "program_capabilities", "routes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOutcome:
    """What becomes of one AgentProgram at this stack.

    Attributes:
        reason: `Accepted`, `NoMatch` (accepted, but nothing belongs to it), `InvalidSpec` or `InvalidMatch`.
        message: what is wrong and what to change; empty if nothing is.
        overlaps: sentences, one for each program that competes with it for some requests.
    """

    namespace: str
    name: str
    accepted: bool
    reason: str
    message: str = ""
    overlaps: tuple[str, ...] = ()


def routes(basis: Basis) -> tuple[ProgramRoute, ...]:
    """Programs whose requests the router must recognise. One that is not valid is left out, and so harms no other."""
    return tuple(_route(basis, program) for program in basis.inputs.programs if not _findings(program))


def _route(basis: Basis, program: AgentProgram) -> ProgramRoute:
    return route_of(
        program, objective_name=objective_name(basis, program) if objectives_served(basis) else ""
    )


def objectives(basis: Basis, ordering: Ordering) -> Iterator[Manifest]:
    """One objective for each program that the router recognises."""
    if not objectives_served(basis):
        return
    routed = {route.key for route in ordering.programs}
    for program in _sorted(basis):
        if f"{program.metadata.namespace}/{program.metadata.name}" in routed:
            yield objective(basis, program)


def outcomes(basis: Basis, ordering: Ordering) -> tuple[ProgramOutcome, ...]:
    return tuple(_outcome(program, ordering) for program in _sorted(basis))


def _outcome(program: AgentProgram, ordering: Ordering) -> ProgramOutcome:
    namespace, name = program.metadata.namespace, program.metadata.name
    key = f"{namespace}/{name}"
    invalid, problems = _findings(program), ordering.problems.get(key, ())
    if invalid or problems:
        return ProgramOutcome(
            namespace=namespace,
            name=name,
            accepted=False,
            reason="InvalidSpec" if invalid else "InvalidMatch",
            message=summarise(invalid or problems),
        )
    if program.spec.match is None:
        return ProgramOutcome(
            namespace=namespace,
            name=name,
            accepted=True,
            reason="NoMatch",
            message="no request belongs to it: name clients or headers in spec.match",
        )
    mine = [overlap for overlap in ordering.overlaps if key in (overlap.winner, overlap.loser)]
    return ProgramOutcome(
        namespace=namespace,
        name=name,
        accepted=True,
        reason="Accepted",
        overlaps=tuple(overlap.why for overlap in mine),
    )


def program_capabilities(basis: Basis) -> Iterator[Capability]:
    """What becomes of the programs' objectives: priority is carried out, targets are measured and reported."""
    programs = basis.inputs.programs
    if any(program.spec.objective.priority for program in programs):
        yield _priority(basis)
    targets: Mapping[str, bool] = {
        "CompletionObjective": any(program.spec.objective.completion for program in programs),
        "FirstTokenObjective": any(program.spec.objective.first_token_after_tool for program in programs),
    }
    for intent, asked in targets.items():
        if asked:
            yield _target(basis, intent)


def _target(basis: Basis, intent: str) -> Capability:
    if basis.scheduling == "Off":
        reason = "programScheduling.mode is Off, so nothing measures it; set the mode to Observe or Enforce"
        return Capability(intent=intent, role="Router", state="Unsupported", reason=reason)
    return Capability(
        intent=intent,
        role="Router",
        state="Approximated",
        mechanism=MECHANISM,
        reason="the target is measured and reported; the scheduler's decisions do not aim at it in this release",
    )


def _priority(basis: Basis) -> Capability:
    release = basis.release
    if basis.scheduling == "Enforce":
        return Capability(intent="ProgramPriority", role="Router", state="Supported", mechanism=MECHANISM)
    if objectives_served(basis):
        return Capability(
            intent="ProgramPriority", role="Router", state="Supported", mechanism="InferenceObjective"
        )
    return Capability(
        intent="ProgramPriority",
        role="Router",
        state="Unsupported",
        reason=f"the cluster does not serve InferenceObjective ({release.objective_api_version}); install the CRDs of the "
        f"picker {release.name}",
    )


def _findings(program: AgentProgram) -> tuple[Finding, ...]:
    return cross_field_findings(program.spec, "spec")


def _sorted(basis: Basis) -> list[AgentProgram]:
    return sorted(basis.inputs.programs, key=lambda p: (p.metadata.namespace, p.metadata.name))
