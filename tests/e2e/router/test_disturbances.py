"""No request fails while a scheduler ends, a router pod ends, or what the scheduler is told changes. Engines are simulated."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentic_serving.program.policy import Policy
from agentic_serving.replay.driver import replay
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import Event, TurnEnded, TurnStarted
from agentic_serving.replay.report import Report
from agentic_serving.workload import read
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.realengines.processes import SERVED
from tests.e2e.routerkit.balancer import Balancer
from tests.e2e.routerkit.chains import Chain, Link, running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool

TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
#: Caches that hold few of the sessions, so that turns are held all the time.
SIZE = EngineSize(cache_tokens=16_384)
LINK = Link(scheduler="Enforce", policy=Policy.for_step(512), max_hold_s=2.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind="sim", size=SIZE, env={"ENGINESIM_PROFILE": "cpu-tiny"}) as found,
    ):
        yield found


class Watch:
    """Lets a test wait until so many turns more have ended, or a turn runs."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._ended = self._started = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event) -> None:
        self._ended += isinstance(event, TurnEnded)
        self._started += isinstance(event, TurnStarted)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def more(self, n: int) -> None:
        """Until `n` turns have ended that had not when this was called."""
        goal = self._ended + n
        async with self._changed, asyncio.timeout(60):
            await self._changed.wait_for(lambda: self._ended >= goal)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def under_load(url: str, disturb: Callable[[Watch], Awaitable[None]], *, retries: int = 0) -> Report:
    """A replay that goes on until the disturbance is over. Without retries every failure shows."""
    stop, watch = asyncio.Event(), Watch()
    options = Options(
        endpoint=url,
        model=SERVED,
        client="opencode",
        token_scale=1 / 16,
        max_output_tokens=16,
        gap_scale=0.0,
        concurrency=8,
        duration_s=60.0,
        stop_s=30.0,
        retries=retries,
        ignore_eos=True,
    )
    programs = [one for one in read(TRACES) if len(one.sessions) == 1]
    running = asyncio.create_task(replay(programs, options, on_event=watch, stop=stop))
    try:
        await watch.more(10)
        await disturb(watch)
        await watch.more(10)
    finally:
        stop.set()
        report = await running
    return report


async def test_a_scheduler_that_is_killed_and_comes_back_fails_no_request(pool: EnginePool) -> None:
    with running_chain(pool, LINK) as chain:
        scheduler = chain.routers[0].scheduler
        assert scheduler is not None

        async def disturb(watch: Watch) -> None:
            for _ in range(3):
                scheduler.process.kill()
                await watch.more(5)  # without it: the way in stays open
                scheduler.start()
                await asyncio.to_thread(scheduler.await_ready)
                await watch.more(5)

        report = await under_load(chain.url, disturb)
    assert (report.summary["errors"], report.summary["retries"]) == ({}, {})


async def test_a_scheduler_that_hangs_fails_no_request(pool: EnginePool) -> None:
    with running_chain(pool, LINK) as chain:
        scheduler = chain.routers[0].scheduler
        assert scheduler is not None

        async def disturb(watch: Watch) -> None:
            os.kill(scheduler.process.pid, signal.SIGSTOP)
            await watch.more(10)
            os.kill(scheduler.process.pid, signal.SIGCONT)
            await watch.more(5)

        report = await under_load(chain.url, disturb)
    assert (report.summary["errors"], report.summary["retries"]) == ({}, {})


async def test_another_policy_while_turns_are_held_fails_no_request(pool: EnginePool) -> None:
    with running_chain(pool, LINK) as chain:

        async def disturb(watch: Watch) -> None:
            for link in (
                replace(LINK, max_hold_s=0.5),
                replace(LINK, policy=Policy.for_step(128)),
                replace(LINK, scheduler="Observe"),
                LINK,
            ):
                chain.configure(link)
                await watch.more(8)

        report = await under_load(chain.url, disturb)
    assert (report.summary["errors"], report.summary["retries"]) == ({}, {})


async def test_a_router_pod_that_dies_fails_no_request_for_good(pool: EnginePool) -> None:
    """Killed without a drain: answers that it was passing on break off, and clients send those turns again."""
    with running_chain(pool, replace(LINK, routers=2)) as chain:
        async with balanced(chain) as balancer:

            async def disturb(watch: Watch) -> None:
                balancer.leave(0)
                chain.routers[0].kill()
                await watch.more(10)

            report = await under_load(balancer.url, disturb, retries=2)
    assert report.summary["errors"] == {}
    assert set(report.summary["retries"]) <= {"stream broken", "cannot connect", "connection"}


@asynccontextmanager
async def balanced(chain: Chain) -> AsyncIterator[Balancer]:
    """What the Service does: each connection to one of the router pods."""
    balancer = Balancer([router.port for router in chain.routers])
    await balancer.start()
    try:
        yield balancer
    finally:
        await balancer.stop()
