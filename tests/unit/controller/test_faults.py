"""controller: a failure at every single API call, and a crash before and after it: the end is the same.

Check 01, check 05, check 12 and check 14 of docs/checks.md. The calls of one whole story are counted first; then
the story is told again with the i-th call going wrong, for each i and each way to go wrong.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Manifest
from agentic_serving.errors import ClusterError, Conflict, Expired, Forbidden, NotFound, Rejected, Unavailable
from tests.unit.controller.world import World, policy, program, stack


class Crash(BaseException):
    """The process dies at this very point."""


FAILURES: dict[str, Callable[[], BaseException]] = {
    "timeout": lambda: Unavailable("no answer"),
    "409": lambda: Conflict("changed", code=409, reason="Conflict"),
    "403": lambda: Forbidden("not allowed", code=403),
    "422": lambda: Rejected("invalid", code=422),
    "404": lambda: NotFound("gone", code=404, reason="NotFound"),
    "410": lambda: Expired("too old", code=410),
    "crash": lambda: Crash(),
}
#: No optional kinds: each is one more list in every look at the cluster, and they are all treated alike.
SERVED = tuple(
    k for k in kinds.ALL_KINDS if "." not in k.group or k.group.endswith((".k8s.io", "-serving.dev"))
)
#: Longer than a resync, and than the back-off after a few failures.
LONG_S = 720.0


def resized(n: int) -> Callable[[Manifest], None]:
    return lambda o: o["spec"]["topology"]["aggregated"].update(replicas=n)


async def tell_story(world: World) -> None:
    """Create with a policy and a program, become ready, shrink (which deletes a child), become ready."""
    for obj in (policy(), stack(replicas=6, policy="host"), program()):
        world.seed(obj)
    await surviving(world, world.start)
    await surviving(world, world.ready)
    world.edit(kinds.STACK, "chat", resized(2))
    await surviving(world, lambda: world.settle(5))
    await surviving(world, world.ready)
    await surviving(world, lambda: world.settle(LONG_S))
    await surviving(world, world.ready)
    await surviving(world, lambda: world.settle(120))


async def surviving(world: World, act: Callable[[], Any]) -> None:
    """Do it; where the process dies, start another. A load that fails is tried again, as `Leading` does."""
    try:
        await act()
    except (Crash, ClusterError):
        await world.restart()


def final_state(world: World, *, ignoring: tuple[str, ...] = ()) -> dict[str, Manifest]:
    """Everything but Events, without what a server numbers and dates."""
    found = {}
    for obj in copy.deepcopy(world.cluster.objects()):
        if obj["kind"] in ("Event", "Lease"):
            continue
        metadata = obj["metadata"]
        for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp", *ignoring):
            metadata.pop(field, None)
        for reference in metadata.get("ownerReferences", []):
            reference.pop("uid")
        metadata.get("labels", {}).pop("agentic-serving.dev/owner-uid", None)
        for condition in obj.get("status", {}).get("conditions", []):
            condition.pop("lastTransitionTime")
            if ignoring:
                condition.pop("observedGeneration", None)
        if ignoring:
            obj.get("status", {}).pop("observedGeneration", None)
        found[f"{obj['kind']}/{metadata['name']}"] = obj
    return found


async def undisturbed() -> tuple[int, dict[str, Manifest]]:
    world = World(served=SERVED)
    await tell_story(world)
    return len(world.cluster.calls), final_state(world)


async def test_the_story_itself_ends_well_and_at_rest() -> None:
    world = World()
    await tell_story(world)
    for kind, name in ((kinds.STACK, "chat"), (kinds.PROGRAM, "coding"), (kinds.POLICY, "host")):
        assert world.condition(kind, name, "Ready")[0] == "True"
    assert "Deployment/chat-overflow" not in world.children()


@pytest.mark.parametrize(
    ("failure", "after_effect"),
    [*((f, False) for f in FAILURES), ("timeout", True), ("crash", True)],
    ids=lambda v: {True: "after", False: "before"}.get(v, v),
)
async def test_a_failure_at_any_call_changes_nothing_in_the_end(failure: str, after_effect: bool) -> None:
    n_calls, expected = await undisturbed()
    assert n_calls > 30
    for i in range(n_calls):
        world = World(served=SERVED)
        world.cluster.fail_at(i, FAILURES[failure](), after_effect=after_effect)  # type: ignore[arg-type]  # Crash is no Exception on purpose
        await tell_story(world)
        assert final_state(world) == expected, f"call {i}"
        world.writes()
        world.leading.queue.add(world.key())
        await world.settle(120)
        assert world.writes() == [], f"call {i} left something to do"


async def test_a_to_b_equals_fresh_b_and_back_again() -> None:
    """Check 05 of docs/checks.md."""
    edited, fresh, back = World(), World(), World()
    for world, start in ((edited, 6), (fresh, 2), (back, 6)):
        world.seed(stack(replicas=start))
        await world.start()
        await world.ready()
    edited.edit(kinds.STACK, "chat", resized(2))
    for n in (2, 6):
        back.edit(kinds.STACK, "chat", resized(n))
        await back.settle(5)
        await back.ready()
    again_a = World()
    again_a.seed(stack(replicas=6))
    await again_a.start()
    for world in (edited, fresh, back, again_a):
        await world.settle(5)
        await world.ready()
        await world.settle(120)
    own = ("generation",)
    assert _specs(final_state(edited, ignoring=own)) == _specs(final_state(fresh, ignoring=own))
    assert _specs(final_state(back, ignoring=own)) == _specs(final_state(again_a, ignoring=own))


def _specs(state: dict[str, Manifest]) -> dict[str, Manifest]:
    """Deployments' statuses repeat generations; everything else must be equal."""
    return {
        k: {f: v for f, v in o.items() if f != "status" or "Deployment/" not in k} for k, o in state.items()
    }
