"""Which rule made what: for every object, and for every option and variable of the engines."""

from collections.abc import Iterator
from dataclasses import dataclass

from agentic_serving.api.rules import Rule
from agentic_serving.render.plan import Plan

__all__ = ["Explained", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One decision.

    Attributes:
        object: `Deployment/chat-engine`.
        item: what in it the rule made, such as `--shutdown-timeout=300` or `env HF_HOME`; empty: the object itself.
    """

    object: str
    item: str
    rule: Rule


def explain(plan: Plan) -> tuple[Explained, ...]:
    """All decisions, in the order of the plan's objects."""
    return tuple(_explained(plan))


def _explained(plan: Plan) -> Iterator[Explained]:
    for manifest in plan.manifests:
        _, kind, name = manifest.key
        for rule in manifest.rules:
            yield Explained(object=f"{kind}/{name}", item="", rule=rule)
        for item, rule in manifest.items:
            yield Explained(object=f"{kind}/{name}", item=item, rule=rule)
