"""enginesim over HTTP: the four generating APIs, streamed or not, tool calls, and what is refused."""

import json
from typing import Any

import pytest

from tests.unit.enginesim.sim import (
    CHAT_TOOL,
    MESSAGES_TOOL,
    MODEL,
    RESPONSES_TOOL,
    chat,
    knobs,
    running,
    words,
)

HISTORY = [
    {"role": "user", "content": "read the file"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "print(1)"}]},
]
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", chat()),
    "completions": ("/v1/completions", {"model": MODEL, "prompt": "hello there", "max_tokens": 4}),
    "responses": ("/v1/responses", {"model": MODEL, "input": "hello there", "max_output_tokens": 4}),
    "messages": ("/v1/messages", chat()),
}


def _text(name: str, answer: dict[str, Any]) -> str:
    paths: dict[str, Any] = {
        "chat": lambda a: a["choices"][0]["message"]["content"],
        "completions": lambda a: a["choices"][0]["text"],
        "responses": lambda a: a["output"][0]["content"][0]["text"],
        "messages": lambda a: a["content"][0]["text"],
    }
    return str(paths[name](answer))


@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_is_exactly_max_tokens_long_and_the_same_every_time(name: str) -> None:
    path, body = WHOLE[name]
    async with running() as sim:
        first, second = await sim.ok(path, body), await sim.ok(path, body)
        tokens = await sim.ok("/tokenize", {"model": MODEL, "prompt": _text(name, first)})
    assert _text(name, first) == _text(name, second)
    assert tokens["count"] == 4
    usage = first["usage"]
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 4


@pytest.mark.parametrize("name", WHOLE)
async def test_streamed_and_whole_answers_agree(name: str) -> None:
    path, body = WHOLE[name]
    async with running() as sim:
        whole = _text(name, await sim.ok(path, body))
        events = await sim.events(path, body)
    texts: dict[str, Any] = {
        "chat": lambda e: "".join(c["delta"].get("content") or "" for c in e.get("choices", [])),
        "completions": lambda e: "".join(c["text"] for c in e.get("choices", [])),
        "responses": lambda e: e["delta"] if e["type"] == "response.output_text.delta" else "",
        "messages": lambda e: e["delta"].get("text", "") if e["type"] == "content_block_delta" else "",
    }
    assert "".join(texts[name](e.json()) for e in events if e.data != "[DONE]") == whole
    ends = {
        "chat": "[DONE]",
        "completions": "[DONE]",
        "responses": "response.incomplete",
        "messages": "message_stop",
    }
    assert ends[name] in (events[-1].name, events[-1].data)


async def test_messages_events_come_in_anthropics_order() -> None:
    async with running() as sim:
        events = await sim.events("/v1/messages", chat())
    names = [e.name for e in events]
    assert names[:2] == ["message_start", "content_block_start"]
    assert set(names[2:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2].json()["usage"]["output_tokens"] == 4


async def test_responses_events_are_numbered_without_a_gap() -> None:
    async with running() as sim:
        events = await sim.events("/v1/responses", {"model": MODEL, "input": "hi", "max_output_tokens": 3})
    assert [e.json()["sequence_number"] for e in events] == list(range(len(events)))
    assert [e.name for e in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]


@pytest.mark.parametrize(
    ("options", "asked", "final", "every_chunk"),
    [
        ((), None, False, False),
        ((), {"include_usage": True}, True, False),
        ((), {"include_usage": True, "continuous_usage_stats": True}, True, True),
        (("--enable-force-include-usage",), None, True, True),
    ],
    ids=["unasked", "asked", "continuous", "forced"],
)
async def test_usage_in_streams(
    options: tuple[str, ...], asked: dict[str, bool] | None, final: bool, every_chunk: bool
) -> None:
    body = chat() if asked is None else chat(stream_options=asked)
    async with running(*options) as sim:
        chunks = [e.json() for e in await sim.events("/v1/chat/completions", body) if e.data != "[DONE]"]
    assert (chunks[-1]["choices"] == []) == final
    assert ("usage" in chunks[0]) == every_chunk
    if final:
        assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_cached_tokens_are_told_only_if_asked_for() -> None:
    async with running(without="--enable-prompt-tokens-details") as sim:
        answer = await sim.ok("/v1/chat/completions", chat())
        message = await sim.ok("/v1/messages", chat())
    assert answer["usage"]["prompt_tokens_details"] is None
    assert set(message["usage"]) == {"input_tokens", "output_tokens"}


CALLS = {
    "chat-required": ("/v1/chat/completions", chat(tools=[CHAT_TOOL], tool_choice="required", max_tokens=64)),
    "chat-named": (
        "/v1/chat/completions",
        chat(
            tools=[CHAT_TOOL], tool_choice={"type": "function", "function": {"name": "read"}}, max_tokens=64
        ),
    ),
    "messages-any": ("/v1/messages", chat(tools=[MESSAGES_TOOL], tool_choice={"type": "any"}, max_tokens=64)),
    "responses-required": (
        "/v1/responses",
        {"model": MODEL, "input": "x", "tools": [RESPONSES_TOOL], "tool_choice": "required"},
    ),
}


def _call(answer: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Name, arguments and why the answer ended."""
    if "choices" in answer:
        choice = answer["choices"][0]
        function = choice["message"]["tool_calls"][0]["function"]
        return function["name"], json.loads(function["arguments"]), choice["finish_reason"]
    if "content" in answer:
        return answer["content"][0]["name"], answer["content"][0]["input"], answer["stop_reason"]
    item = answer["output"][0]
    return item["name"], json.loads(item["arguments"]), answer["status"]


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("chat-required", "tool_calls"),
        ("chat-named", "stop"),
        ("messages-any", "tool_use"),
        ("responses-required", "completed"),
    ],
)
async def test_a_tool_that_is_insisted_on_is_called_by_its_schema(name: str, ended: str) -> None:
    path, body = CALLS[name]
    async with running() as sim:
        tool, arguments, reason = _call(await sim.ok(path, body))
    assert (tool, set(arguments), reason) == ("read", {"path"}, ended)


@pytest.mark.parametrize("name", CALLS)
async def test_streamed_arguments_join_to_the_whole_call(name: str) -> None:
    path, body = CALLS[name]
    async with running() as sim:
        _, arguments, _ = _call(await sim.ok(path, body))
        events = [e.json() for e in await sim.events(path, body) if e.data != "[DONE]"]
    parts = []
    for event in events:
        if event.get("type") == "content_block_delta":
            parts.append(event["delta"].get("partial_json", ""))
        elif event.get("type") == "response.function_call_arguments.delta":
            parts.append(event["delta"])
        for choice in event.get("choices", ()):
            parts += [c["function"].get("arguments", "") for c in choice["delta"].get("tool_calls", ())]
    assert json.loads("".join(parts)) == arguments


REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "unknown-model": (
        "/v1/chat/completions",
        chat(model="x"),
        404,
        "The model `x` does not exist. Valid aliases: tiny.",
    ),
    "too-long": ("/v1/chat/completions", chat(words(30_000)), 400, "maximum context length is 8192 tokens"),
    "limit-beyond-context": (
        "/v1/chat/completions",
        chat(max_tokens=9000),
        400,
        "cannot be greater than max_model_len=8192",
    ),
    "no-messages": ("/v1/chat/completions", {"model": MODEL}, 400, "Field required"),
    "no-prompt": (
        "/v1/completions",
        {"model": MODEL},
        400,
        "Either prompt or prompt_embeds must be provided",
    ),
    "negative-limit": (
        "/v1/chat/completions",
        chat(max_tokens=-1),
        400,
        "max_tokens must be at least 1, got -1.",
    ),
    "hot": ("/v1/chat/completions", chat(temperature=-3), 400, "temperature must be non-negative, got -3.0."),
    "two-choices": ("/v1/chat/completions", chat(n=2), 400, "n=1 only"),
    "priority": ("/v1/chat/completions", chat(priority=3), 400, "Priority scheduling is not enabled"),
    "usage-unstreamed": (
        "/v1/chat/completions",
        chat(stream_options={"include_usage": True}),
        400,
        "Stream options can only be defined when `stream=True`.",
    ),
    "no-tools": ("/v1/chat/completions", chat(tools=[]), 400, "`tools` must not be an empty array"),
    "choice-without-tools": ("/v1/chat/completions", chat(tool_choice="auto"), 400, "`tools` must be set"),
    "other-tool": (
        "/v1/chat/completions",
        chat(tools=[CHAT_TOOL], tool_choice={"type": "function", "function": {"name": "write"}}),
        400,
        "does not match any of the specified `tools`",
    ),
    "messages-limit": ("/v1/messages", chat(max_tokens=0), 400, "max_tokens must be positive"),
    "messages-model": ("/v1/messages", chat(model="x"), 404, "The model `x` does not exist"),
    "responses-previous": (
        "/v1/responses",
        {"model": MODEL, "input": "x", "previous_response_id": "resp_1"},
        404,
        "Response with id 'resp_1' not found.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals(name: str) -> None:
    path, body, expected, message = REFUSED[name]
    async with running() as sim:
        status, answer = await sim.post(path, body)
        assert not sim.built.engine.live()
    assert status == expected
    assert message in answer["error"]["message"]


async def test_the_messages_api_names_errors_as_anthropic_does() -> None:
    async with running() as sim:
        _, answer = await sim.post("/v1/messages", chat(model="x"))
    assert (answer["type"], answer["error"]["type"]) == ("error", "not_found_error")


async def test_auto_tool_choice_needs_the_options() -> None:
    async with running("--max-model-len=8192", without="--") as sim:
        status, answer = await sim.post("/v1/chat/completions", chat(model="some/model", tools=[CHAT_TOOL]))
    assert status == 400
    assert answer["error"]["message"] == (
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    )


@pytest.mark.parametrize(("path", "method"), [("/v1/nothing", "POST"), ("/v1/chat/completions", "GET")])
async def test_paths_and_methods_that_are_not_there(path: str, method: str) -> None:
    async with running() as sim, sim.client.request(method, path) as answer:
        assert answer.status == (404 if method == "POST" else 405)
        assert "detail" in await answer.json()


async def test_a_stop_string_ends_the_answer_before_itself() -> None:
    async with running() as sim:
        whole = (await sim.ok("/v1/chat/completions", chat(max_tokens=20)))["choices"][0]["message"][
            "content"
        ]
        third = whole.split()[2]
        choice = (await sim.ok("/v1/chat/completions", chat(max_tokens=20, stop=[third])))["choices"][0]
    assert choice["message"]["content"] == whole[: whole.index(third)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", third)


async def test_count_tokens_equals_what_the_answer_reports() -> None:
    body = {"model": MODEL, "messages": HISTORY, "tools": [MESSAGES_TOOL]}
    async with running(without="--enable-prompt") as sim:
        counted = await sim.ok("/v1/messages/count_tokens", body)
        answer = await sim.ok("/v1/messages", {**body, "max_tokens": 1})
    assert counted["input_tokens"] == answer["usage"]["input_tokens"]


async def test_a_key_guards_v1_only() -> None:
    async with running("--api-key=secret") as sim:
        assert (await sim.post("/v1/chat/completions", chat()))[0] == 401
        key = {"Authorization": "Bearer secret"}
        assert (await sim.post("/v1/chat/completions", chat(), headers=key))[0] == 200
        assert (await sim.client.get("/health")).status == 200


async def test_the_prefix_cache_is_reset_only_in_development_mode() -> None:
    async with running(knobs=knobs(dev_mode=False)) as sim, sim.client.post("/reset_prefix_cache") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("options", [(), ("--enable-request-id-headers",)], ids=["off", "on"])
async def test_request_ids_come_back_if_asked_for(options: tuple[str, ...], streamed: bool) -> None:
    async with running(*options) as sim:
        body, headers = chat(stream=streamed), {"X-Request-Id": "r1"}
        async with sim.client.post("/v1/chat/completions", json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.headers.get("X-Request-Id") == ("r1" if options else None)
    assert "chatcmpl-r1" in text


@pytest.mark.parametrize("name", WHOLE)
async def test_an_engine_that_drains_answers_new_requests_with_nothing(name: str) -> None:
    path, body = WHOLE[name]
    async with running() as sim:
        sim.built.service.draining = True
        answer = await sim.ok(path, body)
    usage = answer["usage"]
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 0
    if "choices" in answer:
        assert answer["choices"][0]["finish_reason"] == "abort"
