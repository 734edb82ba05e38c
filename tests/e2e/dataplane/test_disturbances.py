"""What a client sees while something goes wrong or changes. Sequential: each test leaves the stack as it found it."""

import asyncio
import contextlib
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agentic_serving.cluster import kinds
from tests.e2e.world import metric, wait_until

from .clients import Answer, Caller, words
from .site import Site, Stack, new_session

#: Turns that are under way at any time while something is being changed.
_WIDTH = 4


@asynccontextmanager
async def load(caller: Caller) -> AsyncIterator[list[Answer]]:
    """Short conversations without end while the block runs; the list holds every turn that has ended."""
    answers: list[Answer] = []
    ending = asyncio.Event()

    async def talk() -> None:
        while not ending.is_set():
            session = new_session()
            messages = [{"role": "user", "content": words(100, about=session)}]
            for turn in range(3):
                answers.append(
                    await caller.chat(messages, session=session, max_tokens=8, stream=turn % 2 == 0)
                )
                messages += [
                    {"role": "assistant", "content": answers[-1].text or "."},
                    {"role": "user", "content": f"turn {turn}"},
                ]

    talkers = [asyncio.create_task(talk()) for _ in range(_WIDTH)]
    try:
        await until(lambda: len(answers) >= _WIDTH)
        yield answers
        seen = len(answers)
        await until(lambda: len(answers) >= seen + 2 * _WIDTH)  # and a while after the change
    finally:
        ending.set()
        for talker in talkers:
            with contextlib.suppress(asyncio.CancelledError):
                await talker


async def until(holds: Callable[[], object], *, timeout_s: float = 120.0) -> None:
    """Wait on the loop for something that the tasks on it bring about."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - what is waited for differs and has no event
            await asyncio.sleep(0.05)


def failures(answers: list[Answer]) -> list[Answer]:
    return [a for a in answers if not a.ok]


async def test_a_rolling_update_fails_no_request(stack: Stack, caller: Caller) -> None:
    before = {pod["metadata"]["uid"] for pod in stack.pods("engine")}
    async with load(caller) as answers:
        stack.merge({"spec": {"engine": {"args": ["--max-num-seqs=48"]}}})
        await asyncio.to_thread(stack.ready)
        await asyncio.to_thread(
            wait_until,
            lambda: not before & {pod["metadata"]["uid"] for pod in stack.pods("engine")},
            what="every engine pod to be a new one",
            timeout_s=120,
        )
    assert failures(answers) == [], stack.complaints()


async def test_scaling_up_and_down_fails_no_request(stack: Stack, caller: Caller) -> None:
    async with load(caller) as answers:
        for replicas in (3, 1, 2):
            stack.merge({"spec": {"topology": {"aggregated": {"replicas": replicas}}}})
            await asyncio.to_thread(stack.ready)
            await asyncio.to_thread(stack.engines, replicas)
    assert failures(answers) == [], stack.complaints()


async def test_traffic_does_not_need_the_operator(site: Site, stack: Stack, caller: Caller) -> None:
    site.operator.stop()
    try:
        async with load(caller) as answers:
            pass
    finally:
        await asyncio.to_thread(site.operator.start)
    assert failures(answers) == [], stack.complaints()


async def test_a_pod_that_dies_breaks_its_streams_and_nothing_else(
    site: Site, stack: Stack, caller: Caller
) -> None:
    session = new_session()
    prompt = [{"role": "user", "content": words(50, about=session)}]
    streaming = asyncio.create_task(caller.chat(prompt, session=session, max_tokens=4000, stream=True))
    victim = await asyncio.to_thread(_running_pod, stack)
    site.node.kill(stack.namespace, victim, "engine")
    broken = await streaming
    assert not broken.ok  # told, not silently cut short
    again = await _eventually(caller, session)
    assert again.ok, again
    await asyncio.to_thread(stack.ready)


def _running_pod(stack: Stack) -> str:
    """The engine pod that has a request running."""
    found: list[str] = []

    def look() -> bool:
        for pod in stack.pods("engine"):
            name = pod["metadata"]["name"]
            address = f"http://{pod['status']['podIP']}:8000/metrics"
            if _sample(address, "vllm:num_requests_running") > 0:
                found.append(name)
                return True
        return False

    wait_until(look, what="a pod with a running request", timeout_s=30)
    return found[0]


def _sample(url: str, name: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return metric(answer.read().decode(), name)


async def _eventually(caller: Caller, session: str) -> Answer:
    """A client's retries: until the picker has seen that the pod is gone."""
    deadline_s = time.monotonic() + 30
    while True:
        answer = await caller.chat([{"role": "user", "content": "again"}], session=session)
        if answer.ok or time.monotonic() > deadline_s:
            return answer
        await asyncio.sleep(0.2)


async def test_a_picker_that_dies_comes_back(
    site: Site, stack: Stack, caller: Caller, record_property: Callable[[str, object], None]
) -> None:
    """Requests fail until it is back: Envoy cannot send one anywhere without it. How long is reported, not asserted."""
    (router,) = stack.pods("router")
    site.node.kill(stack.namespace, router["metadata"]["name"], "picker")
    killed_s = time.monotonic()
    answer = await _eventually(caller, new_session())
    recovered_s = time.monotonic() - killed_s
    record_property("recovered_s", round(recovered_s, 2))
    print(f"\nthe picker was killed; the next answer came after {recovered_s:.1f} s")
    assert answer.ok, answer
    restarts = {
        s["name"]: s["restartCount"]
        for s in site.api.get(kinds.POD, stack.namespace, router["metadata"]["name"])["status"][
            "containerStatuses"
        ]
    }
    assert restarts["picker"] == 1
    assert restarts["envoy"] == 0
