"""router.rewrite: one field more, everything else as it came."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.router.rewrite import engine_priority, insert_int, one_token

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)
SPACE = st.text(" \t\r\n", max_size=3)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), JSON),
    SPACE,
    st.sampled_from([None, 1]),
    st.booleans(),
    st.integers(-(2**31), 2**31),
)
def test_the_rest_is_byte_equal_and_the_field_is_there(
    body: dict[str, Any], space: str, indent: int | None, ascii_only: bool, value: int
) -> None:
    body.pop("priority", None)
    text = (space + json.dumps(body, indent=indent, ensure_ascii=ascii_only) + space).encode()
    parsed = orjson.loads(text)
    found = insert_int(text, "priority", value)
    assert found is not None
    assert orjson.loads(found) == {**parsed, "priority": value}
    written = b'"priority":%d' % value
    cut = found.replace(written + b",", b"", 1) if body else found.replace(written, b"", 1)
    assert cut == text


@pytest.mark.parametrize(
    "text",
    [
        b'{"priority": 3, "model": "m"}',
        b'{"priority" 3}',
        b"",
        b"\xef\xbb\xbf{}",
        b"[]",
        b'"{"',
        b"1",
        b"null",
        b"  [{}]",
    ],
)
def test_what_has_the_field_or_is_no_object_stays(text: bytes) -> None:
    assert insert_int(text, "priority", 1) is None


def test_a_prompt_that_speaks_of_the_field_is_no_field() -> None:
    text = b'{"messages": [{"role": "user", "content": "set \\"priority\\"", "priority": 1}]}'
    assert insert_int(text, "priority", -2) == b'{"priority":-2,' + text[1:]


def test_what_the_client_said_in_another_spelling_wins() -> None:
    found = insert_int(b'{"prior\\u0069ty": 3}', "priority", -2)
    assert found is not None
    assert orjson.loads(found) == json.loads(found) == {"priority": 3}


@pytest.mark.parametrize(
    ("higher", "lower"),
    [((10, False), (0, False)), ((0, False), (-1, False)), ((0, True), (0, False)), ((1, False), (0, True))],
)
def test_higher_programs_come_first_and_overdue_turns_before_their_equals(
    higher: tuple[int, bool], lower: tuple[int, bool]
) -> None:
    first, second = (engine_priority(p, overdue=o) for p, o in (higher, lower))
    assert first < second


@pytest.mark.parametrize("priority", [2**31 - 1, -(2**31)])
def test_engines_take_the_number_whatever_a_program_has(priority: int) -> None:
    assert -(2**31) < engine_priority(priority, overdue=True) < 2**31


@pytest.mark.parametrize(
    ("api", "given_", "changed"),
    [
        ("chat", {"max_tokens": 9, "stream": True, "stream_options": {}, "n": 4}, {"max_tokens": 1}),
        ("chat", {"max_completion_tokens": 9}, {"max_completion_tokens": 1}),
        (
            "chat",
            {"max_completion_tokens": 9, "max_tokens": 8},
            {"max_completion_tokens": 1, "max_tokens": 1},
        ),
        ("chat", {"min_tokens": 5, "request_id": "r"}, {"max_tokens": 1}),
        ("completions", {"best_of": 3, "prompt": "p"}, {"max_tokens": 1, "prompt": "p"}),
        ("responses", {"background": True, "store": True}, {"max_output_tokens": 1, "store": False}),
        ("messages", {"max_tokens": 4096, "stream": True}, {"max_tokens": 1}),
    ],
    ids=str,
)
def test_a_request_for_one_token(api: str, given_: dict[str, Any], changed: dict[str, Any]) -> None:
    """What the chat template may write stays, whatever it is called."""
    prompt = {
        "model": "m",
        "messages": [{"role": "user", "content": "é\u2028"}],
        "tools": [{"name": "a", "input_schema": {"minimum": 1.5}}],
        "tool_choice": "auto",
        "chat_template_kwargs": {"thinking": True},
        "reasoning_effort": "low",
        "cache_salt": "s",
    }
    found = one_token(orjson.dumps({**prompt, **given_}), api)
    assert found is not None
    assert orjson.loads(found) == {**prompt, "stream": False, **changed}


def test_of_a_request_for_one_token_all_else_is_spelt_as_it_was() -> None:
    messages = b'[ {"role":"user", "content":"\\u00e9 \\u0041"}]'
    found = one_token(b'{"messages": %s, "tools": [1.0, 1e2, %d]}' % (messages, 2**70), "chat")
    assert found is not None
    assert messages in found
    assert b"[1.0, 1e2, 1180591620717411303424]" in found


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("count_tokens", b"{}"),
        ("other", b"{}"),
        ("chat", b"[]"),
        ("chat", b"{"),
        ("chat", b"[" * 5000),
        ("chat", b'{"messages": "\\ud800"}'),
    ],
    ids=["tokens are counted", "another path", "no object", "cut off", "deep", "half a pair"],
)
def test_of_some_requests_there_is_none_for_one_token(api: str, body: bytes) -> None:
    assert one_token(body, api) is None
