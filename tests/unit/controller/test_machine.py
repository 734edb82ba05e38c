"""controller: any history of edits, faults and lost events ends where a fresh start on the same objects ends.

Check 02, check 03, check 05, check 12, check 14 and check 18 of docs/checks.md at once: after the faults stop, the
controller comes to rest; at rest it writes nothing; and a new controller on the same cluster finds nothing to do.
"""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agentic_serving.cluster import kinds
from agentic_serving.errors import ClusterError, Conflict, Forbidden, Rejected, Unavailable
from tests.unit.controller.world import NS, World, policy, program, stack

STACKS = ("a", "b")
CHILDREN = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP)
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: Unavailable("busy", code=429, retry_after_s=2),
    lambda: Unavailable("no answer"),
    lambda: Conflict("changed", code=409, reason="Conflict"),
    lambda: Forbidden("not allowed", code=403),
    lambda: Rejected("invalid", code=422),
)


class Crash(BaseException):
    """The process dies."""


class AnyHistory(RuleBasedStateMachine):
    """Users, other controllers, networks and crashes take turns with the controller."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()

    def run(self, act: Callable[[], Awaitable[object]]) -> None:
        async def surviving() -> None:
            try:
                await act()
            except Crash:
                await self.revive()

        self.loop.run_until_complete(surviving())

    async def revive(self) -> None:
        """Start controllers until one gets through its load."""
        while True:
            try:
                return await self.world.restart()
            except (ClusterError, Crash):
                continue

    @initialize()
    def begin(self) -> None:
        for obj in (policy(), stack("a", policy="host"), stack("b"), program(stacks=("a",))):
            self.world.seed(obj)
        self.run(self.world.start)

    # Users.

    @rule(name=st.sampled_from(STACKS), n=st.sampled_from([0, 1, 2, 5, 6]))
    def scale(self, name: str, n: int) -> None:
        if self.world.cluster.peek(kinds.STACK, NS, name):
            self.world.edit(
                kinds.STACK, name, lambda o: o["spec"].update(topology={"aggregated": {"replicas": n}})
            )

    @rule(name=st.sampled_from(STACKS))
    def break_spec(self, name: str) -> None:
        if self.world.cluster.peek(kinds.STACK, NS, name):
            self.world.edit(kinds.STACK, name, lambda o: o["spec"].update(topology={}))

    @rule(name=st.sampled_from(STACKS), reference=st.sampled_from(["host", "missing", None]))
    def refer(self, name: str, reference: str | None) -> None:
        if self.world.cluster.peek(kinds.STACK, NS, name):
            value = {"name": reference} if reference else None
            self.world.edit(kinds.STACK, name, lambda o: o["spec"].update(kvTierPolicyRef=value))

    @rule(name=st.sampled_from(STACKS), replicas=st.sampled_from([2, 6]))
    def recreate(self, name: str, replicas: int) -> None:
        if self.world.cluster.peek(kinds.STACK, NS, name):
            self.world.cluster.drop(kinds.STACK, NS, name)
        self.world.seed(stack(name, replicas=replicas))

    @rule(name=st.sampled_from(STACKS))
    def delete(self, name: str) -> None:
        if self.world.cluster.peek(kinds.STACK, NS, name):
            self.world.cluster.drop(kinds.STACK, NS, name)

    @rule(stacks=st.sampled_from([("a",), ("b",), ("a", "b"), ("missing",)]))
    def retarget(self, stacks: tuple[str, ...]) -> None:
        agents = program(stacks=stacks)["spec"]["agents"]
        self.world.edit(kinds.PROGRAM, "coding", lambda o: o["spec"].update(agents=agents))

    # Everybody else.

    @rule(kind=st.sampled_from(CHILDREN), index=st.integers(0, 5))
    def drop_child(self, kind: object, index: int) -> None:
        found = self.world.cluster.objects(kind)  # type: ignore[arg-type]
        if found:
            self.world.cluster.drop(kind, NS, found[index % len(found)]["metadata"]["name"])  # type: ignore[arg-type]

    @rule(
        kind=st.sampled_from(CHILDREN),
        index=st.integers(0, 5),
        what=st.sampled_from(["labels", "ownerReferences"]),
    )
    def strip_child(self, kind: object, index: int, what: str) -> None:
        found = self.world.cluster.objects(kind)  # type: ignore[arg-type]
        if found:
            name = found[index % len(found)]["metadata"]["name"]
            self.world.edit(kind, name, lambda o: o["metadata"].pop(what, None))  # type: ignore[arg-type]

    @rule(index=st.integers(0, 5))
    def mutate_child(self, index: int) -> None:
        found = self.world.cluster.objects(kinds.DEPLOYMENT)
        if found:
            name = found[index % len(found)]["metadata"]["name"]
            self.world.edit(kinds.DEPLOYMENT, name, lambda o: o["spec"].update(replicas=77))

    @rule()
    def pods_become_ready(self) -> None:
        self.world.pods_ready()

    @rule()
    def garbage_is_collected(self) -> None:
        self.world.cluster.collect_garbage()

    # Faults.

    @rule(error=st.sampled_from(ERRORS), index=st.integers(0, 12), after_effect=st.booleans())
    def fail(self, error: Callable[[], Exception], index: int, after_effect: bool) -> None:
        self.world.cluster.fail_at(index, error(), after_effect=after_effect)

    @rule(index=st.integers(0, 12), after_effect=st.booleans())
    def crash(self, index: int, after_effect: bool) -> None:
        self.world.cluster.fail_at(index, Crash(), after_effect=after_effect)  # type: ignore[arg-type]

    @rule(fresh=st.booleans())
    def lease(self, fresh: bool) -> None:
        self.world.fresh = fresh

    @precondition(lambda self: self.world.events)
    @rule(seed=st.randoms(use_true_random=False), what=st.sampled_from(["drop", "repeat", "shuffle"]))
    def disturb_events(self, seed: object, what: str) -> None:
        events = self.world.events
        if what == "drop":
            del events[::2]
        elif what == "repeat":
            events.extend(events[:3])
        else:
            seed.shuffle(events)  # type: ignore[attr-defined]

    @rule(seconds=st.sampled_from([0.0, 2.0, 90.0]))
    def work(self, seconds: float) -> None:
        self.run(lambda: self.world.settle(seconds))

    def teardown(self) -> None:
        try:
            self.world.cluster.heal()
            self.world.fresh = True
            self.loop.run_until_complete(self.come_to_rest())
        finally:
            self.loop.close()

    async def come_to_rest(self) -> None:
        world = self.world
        for _ in range(3):
            world.cluster.collect_garbage()
            await world.settle(660)
            await world.ready()
        await world.settle(130)
        world.writes()
        for key in [
            (k, n)
            for k in ("AgenticServingStack", "AgentProgram", "KVTierPolicy")
            for n in ("a", "b", "coding", "host")
        ]:
            world.leading.queue.add(world.key(key[1], key[0]))
        await world.settle(130)
        assert world.writes() == [], "writes at rest"
        await world.restart()
        await world.settle(130)
        assert world.writes() == [], "a fresh controller found something to do"
        for obj in world.cluster.objects(kinds.STACK):
            if world.condition(kinds.STACK, obj["metadata"]["name"], "Accepted")[0] == "True":
                assert world.condition(kinds.STACK, obj["metadata"]["name"], "Ready")[0] == "True"


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = hypothesis_settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
