"""replay.sse and replay.answers: events however they are cut, and what four APIs say with them."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.replay.answers import Answer, AnswerFailed, Usage
from agentic_serving.replay.bodies import Api
from agentic_serving.replay.sse import Event, Parser

STREAM = (
    b": a comment\n\n"
    b"event: message_start\ndata: {}\n\n"
    b"data: two\r\ndata:lines \xc3\xa9\r\n\r\n"
    b"id: 7\nevent: ping\n\n"
    b"data: [DONE]\n\ndata: torn"
)
EVENTS = [Event("message_start", "{}"), Event("", "two\nlines é"), Event("", "[DONE]")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_stream_was_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parser = Parser()
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS


def told(api: Api, *bodies: object) -> Answer:
    answer = Answer(api)
    for body in bodies:
        answer.event(Event("", body if isinstance(body, str) else json.dumps(body)))
    return answer


CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
RESPONSES_USAGE = {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}


@pytest.mark.parametrize(
    ("api", "bodies"),
    [
        (
            "chat",
            [{"choices": [{"delta": {"content": "x"}}]}, {"choices": [], "usage": CHAT_USAGE}, "[DONE]"],
        ),
        ("completions", [{"choices": [{"text": "x"}], "usage": CHAT_USAGE}, "[DONE]"]),
        (
            "messages",
            [
                {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 0}}},
                {"type": "content_block_delta", "delta": {"text": "x"}},
                {
                    "type": "message_delta",
                    "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2},
                },
                {"type": "message_stop"},
            ],
        ),
        (
            "responses",
            [
                {"type": "response.created", "response": {"usage": None}},
                {"type": "response.output_text.delta", "delta": "x"},
                {"type": "response.completed", "response": {"usage": RESPONSES_USAGE}},
            ],
        ),
    ],
)
def test_every_api_tells_first_token_usage_and_end(api: Api, bodies: list[Any]) -> None:
    answer = told(api, *bodies)
    assert answer.begun
    assert answer.done
    assert answer.usage == Usage(prompt=9, output=2, cached=4)
    assert not told(api, *bodies[:-1]).done, "an answer that was cut short is not whole"


def test_a_role_alone_is_not_a_first_token_and_a_tool_call_is() -> None:
    assert not told("chat", {"choices": [{"delta": {"role": "assistant", "content": ""}}]}).begun
    assert told("chat", {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}).begun
    assert told("messages", {"type": "content_block_start", "content_block": {"type": "tool_use"}}).begun
    assert not told("messages", {"type": "content_block_start", "content_block": {"type": "text"}}).begun


@pytest.mark.parametrize(
    ("api", "body", "message"),
    [
        ("chat", {"error": {"message": "engine died"}}, "engine died"),
        ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "busy"),
        ("responses", {"type": "response.failed", "response": {"error": {"message": "gone"}}}, "gone"),
        ("chat", "<html>", "not JSON"),
    ],
)
def test_an_error_in_the_stream_fails_the_answer(api: Api, body: object, message: str) -> None:
    with pytest.raises(AnswerFailed, match=message):
        told(api, body)


def test_cached_tokens_that_are_not_reported_are_unknown_and_not_zero() -> None:
    usage = told("chat", {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}).usage
    assert usage == Usage(prompt=3, output=1, cached=None)
