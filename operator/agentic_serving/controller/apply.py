"""Make the objects of a stack what the plan says: compare, apply what differs, remove what is no longer wanted.

Every write is preceded by a comparison, so a pass over a stack at rest sends nothing. An object that is not ours
is never touched: neither adopted, overwritten nor deleted.
"""

import logging
from collections.abc import Iterable

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.diff import needs_apply
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.controller.context import Parts, Problem, StackPass
from agentic_serving.controller.keys import owner_reference
from agentic_serving.controller.references import references_of
from agentic_serving.errors import ClusterError, Conflict, NotFound, Unavailable, Waiting

__all__ = ["NameConflict", "Superseded", "apply_all", "check_term", "prune"]

_log = logging.getLogger(__name__)
#: How soon to look again at an object that is on its way out; its deletion is an event as well.
_TERMINATING_S = 10.0
#: How soon to look whether we lead again.
_TERM_S = 1.0
#: A version that no live object has: server-side apply then creates or refuses, and never overwrites. One request
#: where looking first takes two. Measured on kube-apiserver 1.36 for built-in and custom kinds.
_IF_ABSENT = {"resourceVersion": "1"}
#: What must be in place before anything old is removed: without these the new would not serve.
_ESSENTIAL = frozenset(
    {kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP, kinds.SERVICE_ACCOUNT, kinds.INFERENCE_POOL}
)


class NameConflict(Conflict):
    """An object of the name that we need belongs to somebody else."""


class Superseded(Waiting):
    """The stack is not what this pass works from: it was edited, replaced or deleted meanwhile."""

    def __init__(self) -> None:
        super().__init__("the spec changed meanwhile", after_s=0.0)


def check_term(parts: Parts) -> None:
    """That we lead. A process that was suspended wakes up in the middle of something, and another leads by then.

    Raises:
        Waiting: the lease was not renewed lately; the elector is about to end the process, or renews it.
    """
    if not parts.fresh():
        raise Waiting("the lease was not renewed lately; nothing is written", after_s=_TERM_S)


async def apply_all(parts: Parts, work: StackPass, bodies: Iterable[Manifest]) -> list[Problem]:
    """Bring every object to its desired state, in order; the result is what went wrong with which.

    A problem with one object does not keep the others from being applied.

    Raises:
        Unavailable: the API server does not answer; going on would only add to its load.
        Superseded: there is a newer spec.
        Waiting: we may not lead any more.
    """
    problems: list[Problem] = []
    for body in bodies:
        check_term(parts)
        kind = kinds.of(body)
        try:
            await _apply_one(parts, work, kind, body)
        except (Unavailable, Superseded):
            raise
        except (ClusterError, Waiting) as error:
            problems.append(Problem(kind=kind, name=body["metadata"]["name"], error=error))
    return problems


async def _apply_one(parts: Parts, work: StackPass, kind: Kind, body: Manifest) -> None:
    live = parts.store.get(kind, work.namespace, body["metadata"]["name"])
    if live is None:
        live = await _create(parts, work, kind, body)
    if live is None:
        return
    _check_ours(work, kind, live)
    difference = needs_apply(body, live)
    if difference is None:
        parts.store.put(kind, live)
        return
    _log.debug("applying", extra={"object": f"{kind.kind}/{body['metadata']['name']}", "because": difference})
    await _apply_over(parts, kind, body, live)


async def _create(parts: Parts, work: StackPass, kind: Kind, body: Manifest) -> Manifest | None:
    """Apply an object of which we know nothing, only if there is none; else the one that there is.

    It is not among the objects with our label, but a foreign one of its name may be there. After a pass that
    failed we look first, so that an object that stays in our way is not asked to move at every retry.
    """
    namespace, name = work.namespace, body["metadata"]["name"]
    if work.raw.get("status") or parts.board.get(work.key) is not None:
        # It was there, and is not any more. Garbage collection may be at work on what is left of a stack whose own
        # deletion no event has told us, or the spec that asks for the object may be an old one.
        await _check_newest(parts, work)
    live = await _existing(parts, kind, namespace, name) if work.failures else None
    if live is not None:
        return live
    try:
        answer = await parts.cluster.apply(kind, {**body, "metadata": {**body["metadata"], **_IF_ABSENT}})
    except Conflict:
        live = await _existing(parts, kind, namespace, name)
        if live is None:
            raise
        return live
    parts.store.put(kind, answer)
    return None


async def _apply_over(parts: Parts, kind: Kind, body: Manifest, live: Manifest) -> None:
    # The uid is a precondition: should the object have been replaced meanwhile, it may not be ours any more.
    exact = {**body, "metadata": {**body["metadata"], "uid": live["metadata"]["uid"]}}
    try:
        parts.store.put(kind, await parts.cluster.apply(kind, exact))
    except Conflict:
        await _refresh(parts, kind, live)
        raise


async def _existing(parts: Parts, kind: Kind, namespace: str, name: str) -> Manifest | None:
    try:
        return await parts.cluster.get(kind, namespace, name)
    except NotFound as error:
        if not error.reason:
            raise  # the kind itself is not served
        return None


async def _refresh(parts: Parts, kind: Kind, known: Manifest) -> None:
    """Replace what turned out to be stale."""
    metadata = known["metadata"]
    live = await _existing(parts, kind, metadata["namespace"], metadata["name"])
    parts.store.remove(kind, known)
    if (
        live is not None
        and (live["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY_VALUE
    ):
        parts.store.put(kind, live)


def _check_ours(work: StackPass, kind: Kind, live: Manifest) -> None:
    """That we may write this object.

    Raises:
        NameConflict: it belongs to somebody else.
        Waiting: it is on its way out.
    """
    name = live["metadata"]["name"]
    owner = owner_reference(live)
    if owner is None and not _is_ours_without_owner(work, live):
        raise NameConflict(
            f"exists and was not made for this stack; rename the stack, or delete it: kubectl delete "
            f"{kind} {name} -n {work.namespace}"
        )
    if owner is not None and owner.get("uid") != work.uid:
        if (owner.get("kind"), owner.get("name")) == (kinds.STACK.kind, work.key.name):
            raise Waiting(
                "belongs to an earlier stack of this name and is being removed", after_s=_TERMINATING_S
            )
        raise NameConflict(
            f"is controlled by {owner.get('kind')} {owner.get('name')}; rename the stack, or delete that object"
        )
    if "deletionTimestamp" in live["metadata"]:
        raise Waiting("is being deleted", after_s=_TERMINATING_S)


def _is_ours_without_owner(work: StackPass, live: Manifest) -> bool:
    """We applied it, for a stack of this name: field ownership remembers, and cannot be forged by copying.

    Somebody removed the owner reference, or deleted an earlier stack with `--cascade=orphan` to keep its pods.
    """
    metadata = live["metadata"]
    stack = names.label_value(work.key.name)
    if (metadata.get("labels") or {}).get(names.STACK_LABEL, stack) != stack:
        return False
    return any(
        entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"
        for entry in metadata.get("managedFields") or ()
    )


async def prune(parts: Parts, work: StackPass, wanted: Iterable[Manifest]) -> list[Problem]:
    """Delete the stack's objects that the plan no longer has.

    Only with everything essential in place, a recent lease, and a plan made from the newest spec: the stack is
    read again from the API server first, since what we hold may be older than the objects that it asks for.

    Raises:
        Waiting: this is not the time; look again.
    """
    keep = {(kinds.of(body), body["metadata"]["name"]) for body in wanted}
    extra = [
        (kind, obj)
        for kind, obj in parts.store.owned_by(work.uid)
        if (kind, obj["metadata"]["name"]) not in keep and _may_delete(work, obj)
    ]
    if not extra or any(problem.kind in _ESSENTIAL for problem in work.problems):
        return []
    await _check_newest(parts, work)
    problems: list[Problem] = []
    for kind, obj in extra:
        check_term(parts)
        try:
            await _delete(parts, kind, obj)
        except Unavailable:
            raise
        except ClusterError as error:
            problems.append(Problem(kind=kind, name=obj["metadata"]["name"], error=error))
    return problems


def _may_delete(work: StackPass, obj: Manifest) -> bool:
    owner = owner_reference(obj)
    return owner is not None and owner.get("uid") == work.uid and "deletionTimestamp" not in obj["metadata"]


async def _check_newest(parts: Parts, work: StackPass) -> None:
    """That the pass works from the newest spec: asks the API server, once per pass.

    Raises:
        Superseded: it does not; the store has the newest one now.
    """
    if work.is_newest:
        return
    live = await _existing(parts, kinds.STACK, work.namespace, work.key.name)
    if live is not None and _same(live, work.raw):
        work.is_newest = True
        return
    if live is None:
        parts.store.remove(kinds.STACK, work.raw)
        targets = parts.references.remove(work.key)
    else:
        parts.store.put(kinds.STACK, live)
        targets = parts.references.update(work.key, references_of(work.key, live))
    for target in targets:
        parts.queue.add(target)
    raise Superseded


def _same(live: Manifest, known: Manifest) -> bool:
    fields = ("uid", "generation")
    return all(live["metadata"].get(f) == known["metadata"].get(f) for f in fields)


async def _delete(parts: Parts, kind: Kind, obj: Manifest) -> None:
    metadata = obj["metadata"]
    try:
        await parts.cluster.delete(
            kind,
            metadata["namespace"],
            metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )
    except NotFound:
        pass
    except Conflict:
        # It changed since we saw it (a status, or its owner): look again before deleting.
        await _refresh(parts, kind, obj)
        raise
    parts.store.remove(kind, obj)
