"""cluster.lease: taking, keeping, losing and giving back; never two leaders, whatever the clocks and pauses.

Check 18 and check 19 of docs/checks.md.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.kinds import LEASE
from agentic_serving.cluster.lease import LeaseElector, LeaseTimings
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.errors import ClusterError, Conflict, Forbidden, InvalidInput, Unavailable
from tests.unit.cluster.timeline import Skewed, Timeline


class Candidate:
    """An operator replica: an elector that starts over after each loss, and a switch that stops its process."""

    living: ClassVar[list["Candidate"]] = []

    def __init__(
        self, cluster: FakeCluster, identity: str, timeline: Timeline, clock: Skewed | None = None
    ) -> None:
        self.running = asyncio.Event()
        self.running.set()
        self.answer_delay_s = 0.0
        self.clock = clock or Skewed(timeline)
        self.elector = LeaseElector(
            _Gate(cluster, self),  # type: ignore[arg-type] # only what the elector calls
            namespace="ops",
            name="operator",
            identity=identity,
            clock=self.clock,
            sleep=self._sleep,
        )
        self.ended: BaseException | None = None
        self.n_started = 0
        self.working = False
        self.task = asyncio.create_task(self._run())
        Candidate.living.append(self)

    def pause(self) -> None:
        self.running.clear()

    def resume(self) -> None:
        self.running.set()

    async def _sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        await self.running.wait()

    async def _run(self) -> None:
        while True:
            try:
                await self.elector.run(self._work)
            except ClusterError as error:
                self.ended = error

    async def _work(self) -> None:
        self.n_started += 1
        self.working = True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def stop(self) -> None:
        self.resume()
        self.task.cancel()
        await asyncio.wait({self.task})


async def _stop_all() -> None:
    """A candidate that a failed test left paused would keep its loop from closing."""
    while Candidate.living:
        await Candidate.living.pop().stop()


@pytest.fixture(autouse=True)
async def _nobody_is_left() -> AsyncIterator[None]:
    yield
    await _stop_all()


class _Gate:
    """A cluster that a stopped process neither reaches nor hears from."""

    def __init__(self, cluster: FakeCluster, candidate: Candidate) -> None:
        self._cluster = cluster
        self._candidate = candidate

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        return await self._passed(lambda: self._cluster.get(kind, namespace, name))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self._passed(lambda: self._cluster.create(kind, manifest))

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self._passed(lambda: self._cluster.apply(kind, manifest))

    async def _passed(self, call: Callable[[], Awaitable[Manifest]]) -> Manifest:
        await self._candidate.running.wait()
        answer = await call()
        if self._candidate.answer_delay_s:
            await self._candidate.clock.sleep(self._candidate.answer_delay_s)
        await self._candidate.running.wait()
        return answer


async def test_the_first_to_come_leads_and_the_record_says_so() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    b = Candidate(cluster, "b", timeline)
    await timeline.advance_s(60)
    assert (a.elector.is_leader, a.working, b.elector.is_leader, b.working) == (True, True, False, False)
    assert b.elector.holder == "a"
    spec = (await cluster.get(LEASE, "ops", "operator"))["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)
    assert spec["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert spec["renewTime"] == "2026-01-01T00:01:00.000000Z"
    await a.stop()
    await b.stop()


async def test_a_leader_renews_with_one_request() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    del cluster.calls[:]
    await timeline.advance_s(20)
    assert [call.verb for call in cluster.calls] == ["apply"] * 10
    await a.stop()


async def test_a_stopped_leader_gives_the_lease_back_after_its_work_has_ended() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    was_working: list[bool] = []
    cluster.subscribe(lambda *_: was_working.append(a.working))
    await a.stop()
    assert was_working == [False]
    b = Candidate(cluster, "b", timeline)
    await timeline.settle()
    assert b.working
    assert (await cluster.get(LEASE, "ops", "operator"))["spec"]["leaseTransitions"] == 1
    await b.stop()


async def test_a_dead_leader_is_replaced_after_the_lease_duration_and_not_before() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    b = Candidate(cluster, "b", timeline)
    a.pause()
    await timeline.advance_s(15)
    assert not b.working
    await timeline.advance_s(3)
    assert b.working
    await a.stop()
    await b.stop()


async def test_a_leader_that_wakes_up_late_is_not_fresh_and_stops() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    b = Candidate(cluster, "b", timeline)
    a.pause()
    await timeline.advance_s(20)
    assert b.elector.fresh()
    assert not a.elector.fresh()
    a.resume()
    await timeline.advance_s(3)
    assert isinstance(a.ended, Conflict | Unavailable)
    assert (a.working, b.working) == (False, True)
    await a.stop()
    await b.stop()


@pytest.mark.parametrize(
    "error", [Unavailable("503", code=503), Forbidden("403", code=403)], ids=["503", "403"]
)
async def test_a_leader_that_cannot_renew_gives_up_within_the_deadline(error: ClusterError) -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    cluster.fail_next(error, times=1000)
    await timeline.advance_s(9.9)
    assert a.working
    await timeline.advance_s(0.2)
    assert not a.working
    assert isinstance(a.ended, Unavailable)
    await a.stop()


async def test_a_late_answer_counts_from_when_the_renewal_was_sent() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    a.answer_delay_s = 7
    await timeline.advance_s(9.5)  # sent at 2, answered at 9
    cluster.fail_next(Unavailable("cut"), times=1000)
    await timeline.advance_s(2.4)
    assert a.elector.fresh()
    await timeline.advance_s(0.2)
    assert not a.elector.fresh()
    await a.stop()


async def test_one_lost_answer_does_not_cost_the_lease() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    cluster.fail_next(Unavailable("connection reset"), after_effect=True)
    await timeline.advance_s(30)
    assert (a.working, a.n_started) == (True, 1)
    await a.stop()


async def test_a_deleted_lease_is_not_taken_while_its_holder_may_still_lead() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    a = Candidate(cluster, "a", timeline)
    await timeline.settle()
    b = Candidate(cluster, "b", timeline)
    await timeline.advance_s(1)
    cluster.drop(LEASE, "ops", "operator")
    await timeline.advance_s(10)
    assert (a.working, b.working) == (True, False)
    await a.stop()
    await b.stop()


async def test_the_work_decides_how_the_run_ends() -> None:
    timeline, cluster = Timeline(), FakeCluster()
    elector = LeaseElector(
        cluster, namespace="ops", name="operator", identity="a", clock=timeline, sleep=timeline.sleep
    )

    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await elector.run(work)
    assert (await cluster.get(LEASE, "ops", "operator"))["spec"]["holderIdentity"] == ""


ACTIONS = st.sampled_from(
    ["pause a", "pause b", "resume a", "resume b", "cut", "lose answer", "delete", "heal"]
)


@settings(max_examples=60, deadline=None)
@given(
    story=st.lists(st.tuples(ACTIONS, st.floats(0.1, 25.0)), max_size=12),
    offsets_s=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    rates=st.tuples(st.floats(0.9, 1.1), st.floats(0.9, 1.1)),
)
def test_never_two_fresh_leaders_and_one_in_the_end(
    story: list[tuple[str, float]], offsets_s: tuple[float, float], rates: tuple[float, float]
) -> None:
    asyncio.run(_play_and_stop(story, offsets_s, rates))


async def _play_and_stop(
    story: list[tuple[str, float]], offsets_s: tuple[float, float], rates: tuple[float, float]
) -> None:
    try:
        await _play(story, offsets_s, rates)
    finally:
        await _stop_all()


async def _play(
    story: list[tuple[str, float]], offsets_s: tuple[float, float], rates: tuple[float, float]
) -> None:
    timeline, cluster = Timeline(), FakeCluster()
    clocks = [Skewed(timeline, offset_s=o, rate=r) for o, r in zip(offsets_s, rates, strict=True)]
    a, b = (Candidate(cluster, name, timeline, clock) for name, clock in zip("ab", clocks, strict=True))
    actions: dict[str, Callable[[], None]] = {
        "pause a": a.pause, "pause b": b.pause, "resume a": a.resume, "resume b": b.resume, "heal": cluster.heal,
        "cut": lambda: cluster.fail_next(Unavailable("cut"), times=1000),
        "lose answer": lambda: cluster.fail_next(Unavailable("reset"), after_effect=True),
        "delete": lambda: _drop_unless_led(cluster, a, b),
    }  # fmt: skip
    for action, seconds in story:
        actions[action]()
        await _pass(timeline, seconds, a, b)
    for action in ("heal", "resume a", "resume b"):
        actions[action]()
    await _pass(timeline, 60, a, b)
    assert a.working != b.working


async def _pass(timeline: Timeline, seconds: float, a: Candidate, b: Candidate) -> None:
    """Look often: the invariant must hold at every moment, not only at the end."""
    left_s = seconds
    while left_s > 0:
        await timeline.advance_s(min(0.5, left_s))
        left_s -= 0.5
        assert not (a.elector.fresh() and b.elector.fresh())


def _drop_unless_led(cluster: FakeCluster, a: Candidate, b: Candidate) -> None:
    """An administrator deletes the lease. A newcomer may then lead at once, so only while nobody does."""
    if cluster.peek(LEASE, "ops", "operator") and not (a.elector.fresh() or b.elector.fresh()):
        cluster.drop(LEASE, "ops", "operator")


def test_timings_that_would_let_two_lead_are_refused() -> None:
    with pytest.raises(InvalidInput, match="renew deadline < lease duration"):
        LeaseTimings(lease_duration_s=10, renew_deadline_s=10)
