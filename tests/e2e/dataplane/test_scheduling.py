"""The program scheduler in router pods: programs reach it live, its mode changes and its crashes fail no request."""

import asyncio
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Manifest
from tests.e2e.stacks import program
from tests.e2e.world import condition, reports, wait_until

from .clients import Caller, words
from .site import Site, Stack, new_session
from .test_disturbances import failures, load

SCHEDULER_HTTP = 9005
#: A person's silence after which a task counts as done is 60 s; the rest is for a busy machine.
_TASK_TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def stack(site: Site) -> Iterator[Stack]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    site.cluster.create_namespace(namespace)
    # Router pods are replaced under load here: a turn that a busy machine takes 5 s for must not be cut.
    served = Stack.serve(site, namespace, "chat", replicas=2, disruption={"drainTimeout": "20s"})
    try:
        yield served
    finally:
        site.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def report(stack: Stack) -> dict[str, Any]:
    """What the scheduler of the stack's only router pod reports."""
    (pod,) = stack.pods("router")
    url = f"http://{pod['status']['podIP']}:{SCHEDULER_HTTP}/v1/programs"
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def turns(stack: Stack, name: str) -> int:
    return next((int(one["turns"]) for one in report(stack)["programs"] if one["name"] == name), 0)


def healthy(stack: Stack, status: str = "True") -> Manifest:
    """The stack, once its condition has this status."""
    return stack.site.api.wait(
        kinds.STACK, stack.namespace, stack.name, reports("SchedulerHealthy", status), timeout_s=60
    )


def router_uids(stack: Stack) -> set[str]:
    return {pod["metadata"]["uid"] for pod in stack.pods("router")}


async def test_a_new_program_reaches_the_running_router(stack: Stack, caller: Caller) -> None:
    healthy(stack)
    before = router_uids(stack)
    stack.site.api.apply(program("coding", "chat"), stack.namespace)
    stack.site.api.wait(kinds.PROGRAM, stack.namespace, "coding", reports("Ready", "True"), timeout_s=60)
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(turns, stack, "coding"):
            answer = await caller.chat(
                [{"role": "user", "content": "Hello."}], session=new_session(), headers={"x-app": "coding"}
            )
            assert answer.ok, answer
    assert router_uids(stack) == before


async def test_what_is_measured_becomes_the_programs_status(stack: Stack, caller: Caller) -> None:
    objective = {"completion": {"percentile": "P50", "target": "10m"}}
    stack.site.api.apply(program("measured", "chat", objective=objective), stack.namespace)
    stack.site.api.wait(kinds.PROGRAM, stack.namespace, "measured", reports("Ready", "True"), timeout_s=60)
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(turns, stack, "measured"):
            await caller.chat(
                [{"role": "user", "content": words(20, about=new_session())}],
                session=new_session(),
                headers={"x-app": "measured"},
            )
    met = reports("SLOMet", "True")
    found = await asyncio.to_thread(
        stack.site.api.wait, kinds.PROGRAM, stack.namespace, "measured", met, timeout_s=_TASK_TIMEOUT_S
    )
    assert found["status"]["attainmentPercent"] == 100
    assert set(found["status"]["completion"]) == {"p50", "p95", "p99"}
    assert condition(found, "SignalsHealthy")["status"] == "True"


async def test_a_scheduler_that_is_killed_comes_back_and_fails_no_request(
    site: Site, stack: Stack, caller: Caller
) -> None:
    (pod,) = stack.pods("router")
    name = pod["metadata"]["name"]
    async with load(caller) as answers:
        for _ in range(3):
            await asyncio.to_thread(_kill_scheduler, site, stack, name)
            await asyncio.to_thread(
                wait_until, lambda: _answers(stack), what="the scheduler to answer again", timeout_s=60
            )
    assert failures(answers) == [], stack.complaints()
    (after,) = stack.pods("router")
    assert [s["restartCount"] for s in after["status"]["containerStatuses"]] == [0, 0, 0]
    healthy(stack)


async def test_every_change_of_mode_fails_no_request(stack: Stack, caller: Caller) -> None:
    async with load(caller) as answers:
        for mode, status in (("Observe", "True"), ("Off", "True"), ("Enforce", "True")):
            before = router_uids(stack)
            stack.merge({"spec": {"programScheduling": {"mode": mode}}})
            await asyncio.to_thread(stack.ready)
            await asyncio.to_thread(
                wait_until,
                lambda before=before: not before & router_uids(stack),
                what="a new router pod",
                timeout_s=120,
            )
            await asyncio.to_thread(healthy, stack, status)
            running = {one["name"] for one in stack.pods("router")[0]["spec"]["containers"]}
            assert ("scheduler" in running) is (mode != "Off")
    assert failures(answers) == [], stack.complaints()
    assert report(stack)["mode"] == "Enforce"


async def test_a_store_that_is_not_there_costs_no_request_and_is_told(stack: Stack, caller: Caller) -> None:
    valkey = {"address": "127.0.0.1:1"}
    async with load(caller) as answers:
        stack.merge({"spec": {"programScheduling": {"state": {"backend": "Valkey", "valkey": valkey}}}})
        found = await asyncio.to_thread(healthy, stack, "False")
    assert failures(answers) == [], stack.complaints()
    told = condition(found, "SchedulerHealthy")
    assert (told["reason"], valkey["address"] in told["message"]) == ("StateStoreUnavailable", True), told
    assert condition(found, "Ready")["status"] == "True"
    stack.merge({"spec": {"programScheduling": {"state": None}}})
    await asyncio.to_thread(healthy, stack)


def _kill_scheduler(site: Site, stack: Stack, pod: str) -> None:
    """The scheduler itself: process 1 of its container is the keeper, and its first child is the one that runs."""
    code, said = site.node.exec(
        stack.namespace, pod, "scheduler", ["sh", "-c", "set -- $(cat /proc/1/task/1/children); kill -9 $1"]
    )
    assert code == 0, said


def _answers(stack: Stack) -> bool:
    try:
        return bool(report(stack)["active"])
    except OSError:
        return False
