"""A KVTierPolicy: which stacks refer to it, and what they make of it. Reads the board; renders nothing."""

from collections.abc import Iterable

from agentic_serving.api.capability import Capability
from agentic_serving.api.conditions import PolicyCondition, Reason
from agentic_serving.api.findings import errors, summarise
from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.validate import dump, parse
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.board import Board, StackView
from agentic_serving.controller.keys import Key
from agentic_serving.controller.references import References
from agentic_serving.controller.status import Draft

__all__ = ["draft_policy", "worst"]

#: As `KVTierPolicyStatus.attached_stacks`.
_MAX_STACKS = 32
#: As `KVTierPolicyStatus.capabilities`.
_MAX_CAPABILITIES = 32
_RANK = {"Supported": 0, "Approximated": 1, "Unsupported": 2}
#: Intents that a policy can have, and not the stack itself.
_INTENTS = ("HostMemoryTier", "SharedTier")


def draft_policy(key: Key, raw: Manifest, references: References, board: Board) -> Draft | None:
    """What to say about a policy; None while one of its stacks has not been looked at."""
    draft = Draft(types=tuple(map(str, PolicyCondition)))
    policy, findings = parse(KVTierPolicy, raw)
    stacks = [k for k in references.referrers(key) if k.kind == "AgenticServingStack"]
    draft.fields |= {
        "attachedStacks": [stack.name for stack in stacks[:_MAX_STACKS]] or None,
        "attachedStacksTotal": len(stacks),
    }
    if policy is None or errors(findings):
        wrong = errors(findings)
        _stall(draft, wrong[0].reason, summarise(wrong), accepted=False)
        return draft
    views = {stack.name: view for stack in stacks if (view := board.get(stack)) is not None}
    if len(views) < len(stacks):
        return None
    draft.set(PolicyCondition.ACCEPTED, holds=True, reason=Reason.ACCEPTED, message="the spec is valid")
    _enforcement(draft, views)
    return draft


def worst(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Of each intent and role the worst state, in the order of intents."""
    found: dict[tuple[str, str], Capability] = {}
    for capability in capabilities:
        key = (capability.intent, capability.role)
        old = found.get(key)
        if old is None or _RANK[capability.state] > _RANK[old.state]:
            found[key] = capability
    return tuple(found[key] for key in sorted(found))[:_MAX_CAPABILITIES]


def _enforcement(draft: Draft, views: dict[str, StackView]) -> None:
    of_stack = {name: _tiers(view) for name, view in views.items()}
    every = worst(c for found in of_stack.values() for c in found)
    draft.fields["capabilities"] = [dump(c) for c in every] or None
    if not views:
        draft.set(
            PolicyCondition.ENFORCED,
            holds=None,
            reason=Reason.NO_STACKS,
            message="no stack refers to the policy; name it in spec.kvTierPolicyRef of one",
        )
        _ready(draft, "no stack refers to the policy yet")
        return
    lacking = _lacking(views, of_stack)
    if not lacking:
        message = f"{len(views)} of {len(views)} stacks carry the whole policy out"
        draft.set(PolicyCondition.ENFORCED, holds=True, reason=Reason.ENFORCED, message=message)
        _ready(draft, "enforced on every stack that refers to it")
        return
    nowhere = len(lacking) == len(views) and not any(c.state != "Unsupported" for c in every)
    reason = Reason.NOT_ENFORCED if nowhere else Reason.PARTIALLY_ENFORCED
    message = f"{len(lacking)} of {len(views)} stacks do not carry all of it out: {'; '.join(lacking[:8])}"
    draft.set(PolicyCondition.ENFORCED, holds=False, reason=reason, message=message)
    if all(view.accepted for view in views.values()) and not any(c.state == "Unsupported" for c in every):
        # Something near what was asked carries all of it: nobody has to act, and waiting for Ready must end.
        _ready(draft, "every tier is there, some only approximately: see Enforced and status.capabilities")
        return
    _stall(draft, reason, message, accepted=True)


def _tiers(view: StackView) -> tuple[Capability, ...]:
    return tuple(c for c in view.capabilities if c.intent in _INTENTS)


def _lacking(views: dict[str, StackView], of_stack: dict[str, tuple[Capability, ...]]) -> list[str]:
    """What keeps which stack from carrying the policy out, by name of the stack."""
    found = []
    for name, view in sorted(views.items()):
        short = [c for c in of_stack[name] if c.state != "Supported"]
        if not view.accepted:
            found.append(f"{name} is not accepted ({view.reason})")
        elif short:
            found.append(f"{name}: {short[0].intent} is {short[0].state}: {short[0].reason}")
    return found


def _ready(draft: Draft, message: str) -> None:
    draft.set(PolicyCondition.READY, holds=True, reason=Reason.READY, message=message)
    draft.set(PolicyCondition.RECONCILING, holds=False, reason=Reason.UP_TO_DATE)
    draft.set(PolicyCondition.STALLED, holds=False, reason=Reason.UP_TO_DATE)


def _stall(draft: Draft, reason: str, message: str, *, accepted: bool) -> None:
    """Nothing changes until somebody changes the policy or its stacks."""
    if not accepted:
        draft.set(PolicyCondition.ACCEPTED, holds=False, reason=reason, message=message)
    draft.set(PolicyCondition.READY, holds=False, reason=reason, message=message)
    draft.set(PolicyCondition.RECONCILING, holds=False, reason=reason)
    draft.set(PolicyCondition.STALLED, holds=True, reason=reason, message=message)
