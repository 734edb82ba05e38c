"""Requests through the whole chain: Service, Envoy, picker, engine. The engine is the simulator; the rest is real."""

import asyncio
import json

import pytest

from .clients import Caller, words
from .site import Stack, new_session

#: The router's access log names the pod as IP:port; engines listen on this port.
ENGINE_PORT = 8000


async def test_a_turn_is_answered_with_usage(caller: Caller) -> None:
    answer = await caller.chat([{"role": "user", "content": "What is a pod?"}], max_tokens=5)
    assert answer.ok, answer
    assert answer.usage["completion_tokens"] == 5
    assert answer.usage["prompt_tokens"] > 0


async def test_a_stream_arrives_in_pieces_and_ends_with_usage(caller: Caller) -> None:
    answer = await caller.chat([{"role": "user", "content": "Count."}], max_tokens=12, stream=True)
    assert answer.ok, answer
    assert answer.chunks >= 12
    assert answer.usage["completion_tokens"] == 12


async def test_three_megabytes_of_prompt_pass(caller: Caller) -> None:
    """Agents send bodies of hundreds of kilobytes; no buffer on the way may be smaller than the engine's limit."""
    answer = await caller.chat([{"role": "user", "content": "x" * 3_000_000}], max_tokens=1)
    # Whatever the model's context length says: the engine answers, not a proxy in front of it.
    assert answer.code in (200, 400), answer
    assert answer.code == 200 or "context length" in answer.body


async def test_the_next_turn_goes_to_the_pod_that_holds_the_first(stack: Stack, caller: Caller) -> None:
    for _ in range(3):  # once could be luck: there are two pods
        session = new_session()
        messages = [{"role": "user", "content": words(600, about=session)}]
        first = await caller.chat(messages, session=session)
        assert first.ok, first
        messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Go on."}]
        second = await caller.chat(messages, session=session)
        pods = await asyncio.to_thread(stack.served_by, session, turns=2)
        assert pods[0] == pods[1]
        assert second.cached_tokens > first.usage["prompt_tokens"] // 2


async def test_both_pods_get_work(stack: Stack, caller: Caller) -> None:
    sessions = [new_session() for _ in range(8)]
    answers = await asyncio.gather(
        *(
            caller.chat([{"role": "user", "content": words(200, about=s)}], session=s, max_tokens=64)
            for s in sessions
        )
    )
    assert all(a.ok for a in answers), answers
    used = {(await asyncio.to_thread(stack.served_by, s, turns=1))[0] for s in sessions}
    assert used == {f"{pod['status']['podIP']}:{ENGINE_PORT}" for pod in stack.pods("engine")}


async def test_an_unknown_model_is_refused_by_name(stack: Stack, caller: Caller) -> None:
    caller.model = "no-such-model"
    answer = await caller.chat([{"role": "user", "content": "hello"}])
    assert answer.code == 404, answer
    assert "no-such-model" in answer.body


async def test_the_access_log_tells_session_pod_and_tokens(stack: Stack, caller: Caller) -> None:
    session = new_session()
    answer = await caller.chat([{"role": "user", "content": "hello"}], session=session, max_tokens=3)
    assert answer.ok, answer
    await asyncio.to_thread(stack.served_by, session, turns=1)
    (entry,) = [e for e in stack.access_log() if session in str(e.get("queue"))]
    assert int(entry["completion_tokens"]) == 3
    assert int(entry["prompt_tokens"]) == answer.usage["prompt_tokens"]
    assert entry["code"] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Once", "max_tokens": 4}),
        ("/v1/responses", {"input": "Once", "max_output_tokens": 4, "store": False}),
    ],
)
async def test_further_apis_pass(stack: Stack, caller: Caller, path: str, body: dict[str, object]) -> None:
    async with caller.http.post(f"{stack.endpoint}{path}", json={"model": stack.model, **body}) as answer:
        text = await answer.text()
    assert answer.status == 200, text
    assert json.loads(text)["usage"]
