"""controller.schedulers, reports, objective and pages: what schedulers say, as conditions and figures, and what is written."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving import names
from agentic_serving.clock import timestamp
from agentic_serving.cluster import kinds
from agentic_serving.controller.pages import HttpPages
from agentic_serving.controller.reports import Figures, PodAnswer, figures_of, stack_report
from agentic_serving.controller.schedulers import Silent, Unreachable
from tests.unit.controller.world import NS, World, program, stack

COMPLETION = {"p50": 12.34, "p95": 83.4, "p99": 842.0}


def report(name: str = "coding", *, active: bool = True, **entry: Any) -> dict[str, Any]:
    """What a scheduler says of one program: half of the tasks in time, active a second ago."""
    given = {
        "completion_s": COMPLETION,
        "attainment_percent": 94.9,
        "recompute_percent": 3.4,
        "last_turn_s_ago": 1.0,
    }
    return {"active": active, "programs": [{"name": name, **given, **entry}]}


def answered(pod: str = "a", **more: Any) -> PodAnswer:
    return PodAnswer(pod=pod, outcome="Answered", said=report(**more))


SILENT = PodAnswer(pod="b", outcome="Silent", said="its scheduler gives no answer")
FAR = PodAnswer(pod="c", outcome="Unreachable", said="no connection to port 9005")
STORELESS = PodAnswer(
    pod="a", outcome="Answered", said={**report(), "store_problem": "Valkey at v:6379 cannot be reached"}
)
FAILING = PodAnswer(pod="d", outcome="Failing", said="ImagePullBackOff")


@pytest.mark.parametrize(
    ("answers", "holds", "reason", "said"),
    [
        ([answered()], True, "Serving", "answers"),
        ([answered(active=False), answered("b")], True, "Serving", "answers"),
        ([SILENT, answered("z")], True, "Serving", "answers"),
        ([STORELESS], False, "StateStoreUnavailable", "Valkey at v:6379 cannot be reached"),
        ([answered(active=False), SILENT], False, "NoActiveScheduler", "requests go on"),
        ([SILENT, FAR], False, "SchedulerDown", "its scheduler gives no answer"),
        ([FAILING], False, "SchedulerDown", "ImagePullBackOff"),
        ([FAR], None, "SchedulerUnreachable", "agentic-serving.dev/monitoring=enabled"),
        ([], None, "RouterUnavailable", "no router pod"),
    ],
    ids=[
        "one",
        "standby too",
        "one of two",
        "no store",
        "none active",
        "hung",
        "not running",
        "no way",
        "no pods",
    ],
)
def test_whether_the_scheduler_is_healthy(
    answers: list[PodAnswer], holds: bool | None, reason: str, said: str
) -> None:
    for order in (answers, answers[::-1]):
        found = stack_report(order, {})
        assert (found.holds, found.reason) == (holds, reason)
        assert said in found.message


def test_figures_are_rounded_so_that_a_status_changes_when_they_do() -> None:
    (figures,) = figures_of(report(), {}).values()
    assert figures.completion is not None
    times = figures.completion
    assert (times.p50, times.p95, times.p99) == ("12s", "1m23s", "14m")
    assert (figures.attainment, figures.recompute) == (94, 3)  # 94.9 is not yet 95


def test_a_program_that_idles_keeps_its_figures_until_the_window_is_empty() -> None:
    old = figures_of(report(), {})
    idle = {"last_turn_s_ago": 500.0}
    assert figures_of(report(attainment_percent=10.0, **idle), old) == old
    assert figures_of(
        report(completion_s=None, attainment_percent=None, recompute_percent=None, **idle), old
    ) == {"coding": Figures()}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["programs", "name", "completion_s", "p50", "p95", "p99", "attainment_percent"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["active", "programs"]), JSON))
def test_whatever_a_pod_answers_is_read(said: dict[str, Any]) -> None:
    stack_report([PodAnswer(pod="a", outcome="Answered", said=said)], {})


class Said:
    """Answers by address; what is an exception is raised."""

    def __init__(self, **answers: Mapping[str, Any] | Exception) -> None:
        self.answers = answers

    async def programs(self, address: str) -> Mapping[str, Any]:
        answer = self.answers[address]
        if isinstance(answer, Exception):
            raise answer
        return answer


def router_pod(world: World, name: str = "chat", *, ready: bool = True) -> dict[str, Any]:
    """A router pod, whose address is its stack's name."""
    uid = world.get(kinds.STACK, name)["metadata"]["uid"]
    labels = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE,
        names.COMPONENT_LABEL: "router",
        names.OWNER_UID_LABEL: uid,
    }
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-router-1", "namespace": NS, "labels": labels},
        "spec": {},
        "status": {"phase": "Running", "podIP": name, "conditions": conditions},
    }


def coding(**objective: Any) -> dict[str, Any]:
    obj = program(stacks=tuple(objective.pop("stacks", ("chat",))))
    obj["spec"]["objective"] = objective
    return obj


async def world_with(said: Said, *objects: dict[str, Any]) -> World:
    world = await World.with_objects(*objects, pages=said)
    for obj in objects:
        if obj["kind"] == "AgenticServingStack":
            world.seed(router_pod(world, obj["metadata"]["name"]))
    await world.ready()
    await world.settle(70)
    return world


async def look(world: World, seconds: float = 70) -> None:
    await world.leading.schedulers.look()
    await world.settle(seconds)


TARGET = {"completion": {"percentile": "P95", "target": "5m"}}


async def test_figures_reach_the_program() -> None:
    world = await world_with(Said(chat=report(attainment_percent=97.2)), coding(**TARGET), stack())
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("Unknown", "Pending")
    await look(world)
    status = world.get(kinds.PROGRAM, "coding")["status"]
    assert status["completion"] == {"p50": "12s", "p95": "1m23s", "p99": "14m"}
    assert (status["attainmentPercent"], status["recomputePercent"]) == (97, 3)
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("True", "ObjectiveMet")
    assert world.condition(kinds.PROGRAM, "coding", "SignalsHealthy") == ("True", "Serving")
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == ("True", "Serving")


async def test_a_missed_target_is_told_in_figures() -> None:
    world = await world_with(Said(chat=report()), coding(**TARGET), stack())
    await look(world)
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("False", "ObjectiveMissed")
    assert "P95 of tasks complete within 5m: 94 %" in world.message(kinds.PROGRAM, "coding", "SLOMet")


async def test_a_program_without_an_objective_has_figures_and_no_verdict() -> None:
    world = await world_with(Said(chat=report(attainment_percent=None)), coding(), stack())
    await look(world)
    status = world.get(kinds.PROGRAM, "coding")["status"]
    assert "completion" in status
    assert "attainmentPercent" not in status
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("Unknown", "NotMeasured")


async def test_a_pipeline_is_told_agent_by_agent_and_judged_by_its_worst_stack() -> None:
    said = Said(
        chat=report(attainment_percent=99.0), plan=report(attainment_percent=50.0, recompute_percent=20.0)
    )
    world = await world_with(said, coding(stacks=("chat", "plan"), **TARGET), stack(), stack("plan"))
    await look(world)
    status = world.get(kinds.PROGRAM, "coding")["status"]
    assert "completion" not in status
    assert (status["attainmentPercent"], status["recomputePercent"]) == (50, 20)
    assert {one["name"]: one["attainmentPercent"] for one in status["byAgent"]} == {
        "agent-0": 99,
        "agent-1": 50,
    }
    assert world.condition(kinds.PROGRAM, "coding", "SLOMet") == ("False", "ObjectiveMissed")


async def test_equal_reports_write_nothing() -> None:
    world = await world_with(Said(chat=report()), coding(**TARGET), stack())
    await look(world)
    world.writes()
    for _ in range(5):
        await look(world, 30)
    assert world.writes() == []


async def test_figures_that_move_are_written_once_a_minute() -> None:
    said = Said(chat=report())
    world = await world_with(said, coding(**TARGET), stack())
    await look(world)
    world.writes()
    for step in range(8):  # four minutes
        said.answers["chat"] = report(completion_s={"p50": 10.0 + step, "p95": 20.0, "p99": 30.0})
        await look(world, 30)
    assert 2 <= len(world.writes()) <= 5


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        (Silent("its scheduler gives no answer"), "False", "SchedulerDown"),
        (Unreachable("no connection to port 9005"), "Unknown", "SchedulerUnreachable"),
    ],
    ids=["hung", "no way"],
)
async def test_a_scheduler_that_fails_is_told_at_once_and_nothing_else_changes(
    wrong: Exception, status: str, reason: str
) -> None:
    said = Said(chat=report(attainment_percent=97.2))
    world = await world_with(said, coding(**TARGET), stack())
    await look(world)
    figures = world.get(kinds.PROGRAM, "coding")["status"]["completion"]
    said.answers["chat"] = wrong
    await look(world, 2)
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == (status, reason)
    assert world.condition(kinds.STACK, "chat", "Ready") == ("True", "Ready")
    await world.settle(70)
    assert world.condition(kinds.PROGRAM, "coding", "SignalsHealthy") == (status, reason)
    assert world.condition(kinds.PROGRAM, "coding", "Ready") == ("True", "Ready")
    assert world.get(kinds.PROGRAM, "coding")["status"]["completion"] == figures
    said.answers["chat"] = report(attainment_percent=97.2)
    await look(world, 2)
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == ("True", "Serving")


async def test_where_scheduling_is_off_nobody_is_asked() -> None:
    quiet = stack()
    quiet["spec"]["programScheduling"] = {"mode": "Off"}
    world = await world_with(Said(), coding(**TARGET), quiet)  # an answer to any question would be a KeyError
    await look(world)
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == ("True", "SchedulingOff")
    assert world.condition(kinds.PROGRAM, "coding", "SignalsHealthy") == ("Unknown", "SchedulingOff")


async def test_a_refused_stack_is_not_one_without_scheduling() -> None:
    """Its router runs on as it was: nobody said Off, and its scheduler is still asked."""
    refused = stack()
    refused["spec"]["kvTierPolicyRef"] = {"name": "late"}
    world = await world_with(Said(chat=report(attainment_percent=97.2)), coding(**TARGET), refused)
    assert world.condition(kinds.STACK, "chat", "Accepted") == ("False", "PolicyNotFound")
    assert world.condition(kinds.PROGRAM, "coding", "SignalsHealthy") == ("Unknown", "Pending")
    await look(world)
    assert world.condition(kinds.PROGRAM, "coding", "SignalsHealthy") == ("True", "Serving")
    assert world.get(kinds.PROGRAM, "coding")["status"]["attainmentPercent"] == 97


async def test_pods_that_only_start_are_not_asked() -> None:
    world = await World.with_objects(stack(), pages=Said())
    world.seed(router_pod(world, ready=False))
    await world.ready()
    await look(world)
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == ("Unknown", "RouterUnavailable")


@pytest.mark.parametrize(("age_s", "after"), [(5, ("True", "Serving")), (60, ("False", "SchedulerDown"))])
async def test_a_new_pod_whose_scheduler_does_not_listen_yet_is_no_news(
    age_s: float, after: tuple[str, str]
) -> None:
    said = Said(chat=report())
    world = await world_with(said, stack())
    await look(world)
    said.answers["chat"] = Silent("its scheduler does not listen")
    began = timestamp(world.clock.now() - timedelta(seconds=age_s))
    scheduler = {"name": "scheduler", "ready": True, "state": {"running": {"startedAt": began}}}
    world.edit(kinds.POD, "chat-router-1", lambda pod: pod["status"].update(containerStatuses=[scheduler]))
    await look(world, 2)
    assert world.condition(kinds.STACK, "chat", "SchedulerHealthy") == after


# Over HTTP


class Server:
    """Answers every connection with the same bytes; with none, never."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._serving: list[asyncio.Task[Any] | None] = []

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if not self._answer:
            await reader.read()  # until the other side gives up
        writer.write(self._answer)
        writer.close()
        await writer.wait_closed()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*(task for task in self._serving if task))


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


async def test_a_report_is_read_over_http() -> None:
    async with Server(http("200 OK", '{"active": true}')) as port:
        assert await HttpPages(port).programs("127.0.0.1") == {"active": True}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("503 Service Unavailable", ""), "answers 503"),
        (http("200 OK", "hello"), "not JSON"),
        (http("200 OK", "[]"), "not a report"),
        (b"nonsense\r\n\r\n", "no answer"),
        (b"", "no answer"),
    ],
    ids=["503", "text", "list", "no http", "hung"],
)
async def test_what_is_no_report_is_said_in_words(answer: bytes, said: str) -> None:
    async with Server(answer) as port:
        with pytest.raises(Silent, match=said):
            await HttpPages(port, answer_s=0.2).programs("127.0.0.1")


async def test_a_closed_port_is_a_scheduler_that_is_down() -> None:
    async with Server(b"") as port:
        pass
    with pytest.raises(Silent, match="does not listen"):
        await HttpPages(port).programs("127.0.0.1")
