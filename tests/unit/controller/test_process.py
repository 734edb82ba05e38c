"""controller.main, leading, health, logs: the process starts, serves, stands by, loses its lease, and stops."""

import asyncio
import io
import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from agentic_serving import logs
from agentic_serving.clock import ManualClock, SystemClock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.health import Health, Server, Vitals
from agentic_serving.controller.main import run
from agentic_serving.controller.metrics import Metrics, WatchedCondition
from agentic_serving.controller.source import Deliver, WatchPlan
from agentic_serving.errors import InvalidInput
from agentic_serving.settings import OperatorSettings
from tests.unit.controller.world import NS, stack


@pytest.fixture(autouse=True)
def _logging() -> object:
    """`run` takes over the root logger."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


class FakeSource:
    """Watches a cluster in memory; may be told to break."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.plans: list[WatchPlan] = []
        self.broken = asyncio.Event()
        self._deliver: Deliver | None = None
        cluster.subscribe(self._tell)

    def _tell(self, type_: str, kind: kinds.Kind, obj: Manifest) -> None:
        if self._deliver and kind in self.plans[-1].selectors:
            self._deliver(kind, obj, deleted=type_ == "DELETED")

    async def run(self, plan: WatchPlan, deliver: Deliver, started: Callable[[], None]) -> None:
        self.plans.append(plan)
        self._deliver = deliver
        started()
        await self.broken.wait()
        self.broken.clear()
        raise RuntimeError("stream broke")


def settings(**changes: object) -> OperatorSettings:
    fields: dict[str, object] = {
        "metrics_port": 0, "lease_namespace": NS, "identity": "me", "coalesce_s": 0.0,
        "retry_period_s": 0.01, "renew_deadline_s": 0.5, "lease_duration_s": 1.0,
    }  # fmt: skip
    return OperatorSettings(**{**fields, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def operator(
    cluster: FakeCluster, source: FakeSource, **changes: object
) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(
        run(settings(**changes), clock=SystemClock(), rng=Random(0), cluster=cluster, source=source)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what it waits for is the state of a cluster, which sets no event
            await asyncio.sleep(0.005)


def exists(cluster: FakeCluster, name: str) -> Callable[[], bool]:
    return lambda: cluster.peek(kinds.SERVICE, NS, name) is not None


async def test_it_leads_watches_works_and_gives_the_lease_back() -> None:
    cluster = FakeCluster()
    cluster.seed(kinds.STACK, stack("first"))
    source = FakeSource(cluster)
    async with operator(cluster, source) as task:
        await until(exists(cluster, "first"))
        await until(lambda: bool(source.plans))
        cluster.seed(kinds.STACK, stack("second"))
        await until(exists(cluster, "second"))
        task.cancel()
        assert await task == 0
    lease = cluster.peek(kinds.LEASE, NS, "agentic-serving-operator")
    assert lease is not None
    assert not lease["spec"].get("holderIdentity")


async def test_a_standby_does_nothing_until_the_leader_is_gone() -> None:
    """Check 18 of docs/checks.md."""
    cluster = FakeCluster()
    first, second = FakeSource(cluster), FakeSource(cluster)
    async with operator(cluster, first, identity="one") as leader:
        await until(lambda: bool(first.plans))
        async with operator(cluster, second, identity="two"):
            await asyncio.sleep(0.1)
            assert second.plans == []
            leader.cancel()
            await until(lambda: bool(second.plans))


async def test_a_lost_lease_ends_the_process_with_1() -> None:
    cluster = FakeCluster()
    source = FakeSource(cluster)
    async with operator(cluster, source) as task:
        await until(lambda: bool(source.plans))

        def steal(lease: Manifest) -> None:
            lease["spec"]["holderIdentity"] = "thief"

        cluster.edit(kinds.LEASE, NS, "agentic-serving-operator", steal)
        assert await asyncio.wait_for(task, 20) == 1


async def test_crds_that_come_later_are_waited_for() -> None:
    cluster = FakeCluster(served=[k for k in kinds.ALL_KINDS if k != kinds.POLICY])
    source = FakeSource(cluster)
    async with operator(cluster, source):
        await until(lambda: any(c.verb == "served" for c in cluster.calls))
        assert source.plans == []
        cluster.serve(kinds.POLICY)
        await until(lambda: bool(source.plans))


async def test_watches_that_end_are_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentic_serving.controller.leading._WATCH_AGAIN_S", 0.01)
    cluster = FakeCluster()
    source = FakeSource(cluster)
    async with operator(cluster, source):
        await until(lambda: len(source.plans) == 1)
        source.broken.set()
        await until(lambda: len(source.plans) == 2)
        cluster.seed(kinds.STACK, stack())
        await until(exists(cluster, "chat"))


async def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="AGENTIC_SERVING_WORKERS"):
        OperatorSettings.from_env({"AGENTIC_SERVING_WORKERS": "many"})
    with pytest.raises(InvalidInput, match="workers"):
        OperatorSettings(workers=0)
    with pytest.raises(InvalidInput, match="renew_deadline_s"):
        OperatorSettings(renew_deadline_s=20)
    with pytest.raises(InvalidInput, match="AGENTIC_SERVING_LEADER_ELECTION"):
        OperatorSettings.from_env({"AGENTIC_SERVING_LEADER_ELECTION": "perhaps"})


def test_settings_come_from_the_environment() -> None:
    found = OperatorSettings.from_env(
        {
            "AGENTIC_SERVING_WORKERS": "3",
            "AGENTIC_SERVING_RESYNC_S": "1.5",
            "AGENTIC_SERVING_LEADER_ELECTION": "false",
            "AGENTIC_SERVING_NAMESPACES": "a, b,",
            "AGENTIC_SERVING_KUBECONFIG": "/x",
            "PATH": "/bin",
        }
    )
    assert (found.workers, found.resync_s, found.leader_election) == (3, 1.5, False)
    assert (found.namespaces, found.kubeconfig) == (("a", "b"), "/x")


async def get(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def test_health_and_metrics_are_served_on_one_port() -> None:
    health, metrics = Health(clock=ManualClock(), resync_s=600), Metrics()
    metrics.observe_request(verb="apply", kind="Deployment", result="ok", seconds=0.1)
    metrics.conditions(lambda: [WatchedCondition("AgenticServingStack", "Ready", "True")] * 3)
    metrics.watches(lambda: {"Deployment": 1.5})
    server = Server(health, metrics)
    await server.start("127.0.0.1", 0)
    try:
        assert await get(server.port, "/healthz") == (200, "ok")
        assert await get(server.port, "/readyz") == (503, "starting")
        health.why_not_ready = ""
        assert await get(server.port, "/readyz") == (200, "ok")
        _, text = await get(server.port, "/metrics")
    finally:
        await server.stop()
    assert 'agentic_serving_api_requests_total{code="ok",kind="Deployment",verb="apply"} 1.0' in text
    assert 'agentic_serving_watch_last_event_timestamp_seconds{kind="Deployment"} 1.5' in text
    assert 'agentic_serving_condition{kind="AgenticServingStack",status="True",type="Ready"} 3.0' in text


@pytest.mark.parametrize(
    ("vitals", "complaint"),
    [
        (None, ""),
        ({}, ""),
        ({"oldest_s": 400.0}, ""),
        ({"oldest_s": 400.0, "last_beat_s": 0.0}, "no worker takes it"),
        ({"last_beat_s": 0.0}, ""),
        ({"running": 8, "last_beat_s": 0.0}, "no worker has finished"),
        ({"last_seen_s": 0.0}, "nothing has been heard of the cluster"),
    ],
    ids=["standby", "well", "a storm", "stuck queue", "idle", "hung workers", "deaf"],
)
def test_alive_is_who_makes_progress(vitals: dict[str, float] | None, complaint: str) -> None:
    clock = ManualClock()
    clock.advance(2000)
    health = Health(clock=clock, resync_s=600)
    if vitals is not None:
        fields = {"oldest_s": 0.0, "running": 0, "last_beat_s": 2000.0, "last_seen_s": 2000.0, **vitals}
        health.vitals = lambda: Vitals(**fields)  # type: ignore[arg-type]
    assert complaint in health.sick()
    assert bool(health.sick()) is bool(complaint)


@pytest.mark.parametrize("form", ["json", "text"])
def test_log_lines_carry_the_object_and_the_pass(form: str) -> None:
    out = io.StringIO()
    logs.set_up("INFO", form, out)  # type: ignore[arg-type]
    log = logging.getLogger("agentic_serving.x")
    with logs.bound(kind="AgenticServingStack", name="chat", reconcile_id="7"):
        log.warning("it failed: %s", "why", extra={"attempt": 2})
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            log.exception("odd")
    log.debug("not shown")
    lines = out.getvalue().splitlines()
    if form == "text":
        assert lines[0].endswith("it failed: why kind=AgenticServingStack name=chat reconcile_id=7 attempt=2")
        return
    first, second = (json.loads(line) for line in lines)
    assert (first["level"], first["message"], first["attempt"]) == ("warning", "it failed: why", 2)
    assert (first["kind"], first["name"], first["reconcile_id"]) == ("AgenticServingStack", "chat", "7")
    assert "ZeroDivisionError" in second["exception"]


def test_kopf_cannot_flood_the_log() -> None:
    """Check 21 of docs/checks.md."""
    out = io.StringIO()
    logs.set_up("INFO", "json", out)
    for _ in range(100):
        logging.getLogger("kopf._cogs.clients.watching").error("Request attempt failed")
        logging.getLogger("agentic_serving.x").error("ours")
    lines = [json.loads(line)["message"] for line in out.getvalue().splitlines()]
    assert lines.count("ours") == 100
    assert lines.count("Request attempt failed") <= 10  # five, in each of two minutes at most
