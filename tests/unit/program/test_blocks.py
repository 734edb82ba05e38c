"""program.blocks and normalise: one conversation through three APIs, what must not move the chain, any JSON."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.blocks import Block, Template, TokenRate, blocks_of
from agentic_serving.program.normalise import HeadOrder

_SCHEMA = {"type": "object"}
_BILLING = "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=cli;"


def messages() -> dict[str, Any]:
    return {
        "tools": [{"name": "ls", "description": "list", "input_schema": _SCHEMA}],
        "system": [{"type": "text", "text": _BILLING}, {"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "what is here?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "look first", "signature": "s1"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {"b": 1, "a": 2}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x.py"}],
            },
        ],
    }


def chat() -> dict[str, Any]:
    function = {"name": "ls", "description": "list", "parameters": _SCHEMA}
    call = {"id": "call_9", "type": "function", "function": {"name": "ls", "arguments": '{"b": 1, "a": 2}'}}
    return {
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "what is here?"},
            {
                "role": "assistant",
                "reasoning_content": "look first",
                "content": "I look.",
                "tool_calls": [call],
            },
            {"role": "tool", "tool_call_id": "call_9", "content": "x.py"},
        ],
    }


def responses() -> dict[str, Any]:
    return {
        "tools": [{"type": "function", "name": "ls", "description": "list", "parameters": _SCHEMA}],
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what is here?"}]},
            {
                "type": "reasoning",
                "id": "rs_1",
                "content": [{"type": "reasoning_text", "text": "look first"}],
            },
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c", "name": "ls", "arguments": '{"b":1,"a":2}'},
            {"type": "function_call_output", "call_id": "c", "output": "x.py"},
        ],
    }


def kinds(blocks: Sequence[Block]) -> list[str]:
    return [f"{b.kind}:{b.role}".rstrip(":") for b in blocks]


def chains(body: object, **options: Any) -> list[int]:
    return [b.chain for b in blocks_of(body, **options)]


@pytest.mark.parametrize("make", [chat, responses], ids=lambda f: f.__name__)
@pytest.mark.parametrize("head", ["tools-first", "system-first"])
def test_a_conversation_is_the_same_through_every_api(
    make: Callable[[], dict[str, Any]], head: HeadOrder
) -> None:
    assert chains(make(), template=Template(head=head)) == chains(messages(), template=Template(head=head))


@pytest.mark.parametrize(
    ("head", "first"),
    [("tools-first", ["ToolCatalog", "System"]), ("system-first", ["System", "ToolCatalog"])],
    ids=str,
)
def test_blocks_stand_in_the_order_of_the_template(head: HeadOrder, first: list[str]) -> None:
    turns = ["Turn:user", "Reasoning:assistant", "Turn:assistant", "Turn:assistant", "Turn:tool"]
    assert kinds(blocks_of(messages(), template=Template(head=head))) == first + turns


def _with(path: list[Any], value: object) -> dict[str, Any]:
    body = copy.deepcopy(messages())
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return body


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (_with(["system", 0, "text"], _BILLING.replace("197", "200")), True),
        (_with(["messages", 0, "content", 0, "cache_control"], {"type": "ephemeral"}), True),
        (_with(["messages", 1, "content", 2, "id"], "toolu_2"), True),
        (_with(["messages", 1, "content", 0, "signature"], "s2"), True),
        (_with(["metadata"], {"user_id": "u"}), True),
        (_with(["messages", 1, "content", 2, "input"], {"a": 2, "b": 1}), False),
        (_with(["messages", 0, "content", 0, "text"], "what is where?"), False),
        (_with(["system", 1, "text"], "Be long."), False),
    ],
    ids=["billing", "mark", "call-id", "signature", "metadata", "order-of-arguments", "text", "system"],
)
def test_only_what_reaches_the_prompt_moves_the_chain(body: dict[str, Any], same: bool) -> None:
    assert (chains(body) == chains(messages())) is same


def test_ids_of_calls_count_where_the_template_writes_them() -> None:
    other = _with(["messages", 1, "content", 2, "id"], "toolu_2")
    ids = Template(call_ids=True)
    assert chains(other, template=ids) != chains(messages(), template=ids)


@pytest.mark.parametrize(
    ("reasoning", "written"),
    [("all", ["first", "second"]), ("last", ["second"]), ("none", [])],
)
def test_reasoning_is_written_as_the_template_does(
    reasoning: Literal["all", "last", "none"], written: list[str]
) -> None:
    """vLLM gives the template all that the client sent; Qwen3's and GLM's leave out what is before the last human message."""
    asked = {"role": "user", "content": "hi"}
    first, second = (
        {"role": "assistant", "reasoning_content": r, "content": "a"} for r in ("first", "second")
    )
    blocks = blocks_of({"messages": [asked, first, asked, second]}, template=Template(reasoning=reasoning))
    assert [b.n_bytes for b in blocks if b.kind == "Reasoning"] == [len(text) for text in written]


def test_a_mark_is_kept_as_a_hint() -> None:
    marked = _with(["messages", 0, "content", 0, "cache_control"], {"type": "ephemeral"})
    assert [b.hinted for b in blocks_of(marked)] == [False, False, True, False, False, False, False]


def test_what_siblings_are_told_before_their_task_is_shared() -> None:
    first, second = (
        blocks_of({"messages": [{"role": "user", "content": [_text("Rules."), _text(task)]}]})
        for task in ("Search.", "Write.")
    )
    assert (first[0].chain == second[0].chain, first[1].chain == second[1].chain) == (True, False)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_a_text_and_a_list_of_it_are_the_same() -> None:
    """Clients write the last message as a list, where the caching mark can stand, and as a text later."""
    asked = {"role": "user", "content": "hi"}
    assert chains({"messages": [asked]}) == chains({"messages": [{**asked, "content": [_text("hi")]}]})


def test_a_previous_response_goes_on_where_its_request_ended() -> None:
    before = blocks_of(responses())
    body = {"previous_response_id": "resp_1", "input": "and now?"}
    now = blocks_of(body, after=before)
    assert now[: len(before)] == before
    assert kinds(now[len(before) :]) == ["Turn:assistant", "Turn:user"]


@pytest.mark.parametrize(
    ("n_bytes", "tokens", "moved"), [(1000, 500, True), (0, 5, False), (10, 21, False), (1000, 15, False)]
)
def test_tokens_per_byte_learns_from_possible_reports_only(n_bytes: int, tokens: int, moved: bool) -> None:
    rate = TokenRate()
    rate.learn(n_bytes, tokens)
    assert (rate.tokens_per_byte != 0.25) is moved


def test_tokens_per_byte_is_the_mean_at_first_and_follows_later() -> None:
    rate = TokenRate()
    rate.learn(1000, 500)
    assert rate.tokens_per_byte == 0.5
    rate.learn(1000, 300)
    assert rate.tokens_per_byte == pytest.approx(0.4)
    for _ in range(100):
        rate.learn(1000, 100)
    assert rate.tokens_per_byte == pytest.approx(0.1, abs=0.01)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "input",
                    "system",
                    "instructions",
                    "tools",
                    "role",
                    "content",
                    "type",
                    "text",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "tool_calls",
                    "thinking",
                    "summary",
                    "reasoning",
                    "output",
                    "previous_response_id",
                    "cache_control",
                ]
            ),
            inner
            | st.sampled_from(["user", "assistant", "tool", "text", "tool_use", "thinking", "tool_result"]),
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(_JSON)
def test_no_json_raises(body: object) -> None:
    for block in blocks_of(body):
        assert block.tokens >= 0


@pytest.mark.parametrize("value", [2**80, "\ud800"], ids=["large-integer", "lone-surrogate"])
def test_what_orjson_refuses_is_hashed_still(value: object) -> None:
    assert chains(_with(["messages", 1, "content", 2, "input"], {"x": value})) != chains(messages())


def test_depth_is_no_limit() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert len(blocks_of({"messages": [{"role": "user", "content": deep}]})) == 1
