"""From files to plans: what `render`, `validate`, `explain` and `diff` share."""

from collections.abc import Iterable
from dataclasses import dataclass

from agentic_serving.api.stack import AgenticServingStack
from agentic_serving.cli.bundle import Bundle, Located, inputs_of, read_bundle
from agentic_serving.errors import InvalidInput
from agentic_serving.render.plan import Plan, render

__all__ = ["Planned", "plan_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Each stack's plan, and all findings of reading and planning, errors first."""

    bundle: Bundle
    plans: tuple[tuple[AgenticServingStack, Plan], ...]
    findings: tuple[Located, ...]

    @property
    def errors(self) -> tuple[Located, ...]:
        return tuple(item for item in self.findings if item.finding.severity == "Error")


def plan_files(paths: Iterable[str], *, namespace: str, stack: str | None = None) -> Planned:
    """Read the files and render every stack in them, or the one named.

    A stack that has errors of its own in its file is not rendered: its findings are.

    Raises:
        InvalidInput: a path cannot be read, or the named stack is not in them.
    """
    bundle = read_bundle(paths, namespace=namespace)
    chosen = [s for _, s in sorted(bundle.stacks.items()) if stack is None or s.metadata.name == stack]
    if stack is not None and not chosen:
        raise InvalidInput("--stack", f"no AgenticServingStack named {stack} in the given files")
    findings = list(bundle.findings)
    plans: list[tuple[AgenticServingStack, Plan]] = []
    for item in chosen:
        plan = render(inputs_of(bundle, item))
        plans.append((item, plan))
        findings += _of_plan(bundle, item, plan)
    unique = dict.fromkeys(findings)
    ordered = sorted(unique, key=lambda item: item.finding.severity != "Error")
    return Planned(bundle=bundle, plans=tuple(plans), findings=tuple(ordered))


def _of_plan(bundle: Bundle, stack: AgenticServingStack, plan: Plan) -> list[Located]:
    where, name = bundle.source_of(stack), f"AgenticServingStack/{stack.metadata.name}"
    return [Located(source=where, object=name, finding=finding) for finding in plan.findings]
