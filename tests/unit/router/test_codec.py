"""router.codec: words as Envoy must hear them."""

import json

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.render.envoy_picking import OTHERS_KEY, SUBSET, SUBSET_KEY
from agentic_serving.render.envoy_scheduler import LONGEST_HOLD_S, scheduler_filter
from agentic_serving.router import codec
from agentic_serving.router.words import Go, Refuse

HEADERS, BODY = codec.Shown(with_body=False), codec.Shown(with_body=True)
CUT = codec.Shown(with_body=False, complete=False, more=True)


def said(answer: bytes) -> pb.ProcessingResponse:
    return pb.ProcessingResponse.FromString(answer)


def set_headers(answer: bytes, where: str) -> dict[str, str]:
    options = getattr(said(answer), where).response.header_mutation.set_headers
    return {one.header.key: one.header.raw_value.decode() for one in options}


@pytest.mark.parametrize(
    ("shown", "where"),
    [(HEADERS, "request_headers"), (BODY, "request_body"), (CUT, "request_headers")],
    ids=["headers", "body", "not-read"],
)
def test_an_answer_is_to_the_message_that_was_sent(shown: codec.Shown, where: str) -> None:
    """Envoy ends the stream of a scheduler that answers another one."""
    word = Go(call_id="c", headers={"x-a": "1"})
    assert said(codec.go(word, shown)).WhichOneof("response") == where
    assert said(codec.go(Go(call_id="c"), shown)).WhichOneof("response") == where
    assert set_headers(codec.go(word, shown), where) == {"x-a": "1"}


def test_the_hint_is_a_list_in_the_pickers_namespace() -> None:
    answer = said(codec.go(Go(call_id="c", endpoints=("10.0.0.1:8000", "10.0.0.2:8000")), BODY))
    key = "x-gateway-destination-endpoint-subset"
    assert MessageToDict(answer.dynamic_metadata) == {
        "envoy.lb.subset_hint": {key: ["10.0.0.1:8000", "10.0.0.2:8000"]}
    }


def test_the_hint_of_a_second_try_stands_beside_it() -> None:
    answer = said(codec.go(Go(call_id="c", endpoints=("10.0.0.1:8000",), others=("10.0.0.2:8000",)), BODY))
    hints = MessageToDict(answer.dynamic_metadata)[SUBSET]
    assert hints == {SUBSET_KEY: ["10.0.0.1:8000"], OTHERS_KEY: ["10.0.0.2:8000"]}


@pytest.mark.parametrize(
    ("shown", "replaced"),
    [(BODY, b"{}"), (codec.Shown(with_body=True, complete=False), b""), (HEADERS, b""), (CUT, b"")],
    ids=["whole", "cut", "no-body", "not-read"],
)
def test_only_a_body_that_was_shown_whole_is_replaced(shown: codec.Shown, replaced: bytes) -> None:
    """Else a part of it would be."""
    answer = said(codec.go(Go(call_id="c", body=b"{}"), shown))
    assert answer.request_body.response.body_mutation.body == replaced


def test_a_body_that_is_not_read_is_not_sent() -> None:
    """All else stays as rendered: an override replaces the whole mode."""
    override = MessageToDict(
        said(codec.go(Go(call_id="c"), CUT)).mode_override, preserving_proto_field_name=True
    )
    rendered = scheduler_filter()["typed_config"]["processing_mode"]
    assert {**rendered, "request_body_mode": "NONE"} == {
        "request_body_mode": "NONE",
        "response_body_mode": "NONE",
        **override,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "caf\xe9"), ("x-a", "a\nb"), ("x-a", "\x00"), ("X-A", "a"), ("x a", "a"), ("", "a")],
)  # fmt: skip
def test_what_envoy_would_fail_a_request_for_is_left_out(name: str, value: str) -> None:
    assert set_headers(
        codec.go(Go(call_id="c", headers={name: value, "x-ok": "1"}), BODY), "request_body"
    ) == {"x-ok": "1"}


@pytest.mark.parametrize(("seconds", "asked"), [(-5, 1), (0.2, 1), (3.01, 4), (10**9, LONGEST_HOLD_S)])
def test_a_hold_asks_for_whole_seconds_that_envoy_grants(seconds: float, asked: int) -> None:
    assert said(codec.hold(seconds)).override_message_timeout.seconds == asked


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (
            "/v1/messages?beta=true",
            429,
            {"type": "error", "error": {"type": "rate_limit_error", "message": "m"}},
        ),
        ("/v1/messages", 409, {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}),
        (
            "/v1/chat/completions?a=/messages",
            429,
            {
                "error": {
                    "type": "rate_limit_error",
                    "message": "m",
                    "param": None,
                    "code": "rate_limit_exceeded",
                }
            },
        ),
        ("/v1/responses", 503, {"error": {"type": "api_error", "message": "m", "param": None, "code": None}}),
    ],
)
def test_a_refusal_is_an_error_that_the_sdks_read(path: str, status: int, error: dict[str, object]) -> None:
    answer = said(codec.refuse(Refuse(call_id="c", status=status, message="m"), path)).immediate_response
    assert (answer.status.code, json.loads(answer.body)) == (status, error)
    assert "retry-after" not in {one.header.key for one in answer.headers.set_headers}


def test_a_repeated_header_counts_once_as_for_envoy() -> None:
    sent = [
        HeaderValue(key="x-a", raw_value=b"1"),
        HeaderValue(key="x-a", raw_value=b"2"),
        HeaderValue(key="x-b", value="3"),
    ]
    assert codec.header_map(sent) == {"x-a": "1", "x-b": "3"}


@given(st.lists(st.tuples(st.text(), st.binary())))
def test_any_header_can_be_read(headers: list[tuple[str, bytes]]) -> None:
    sent = [HeaderValue(key=name, raw_value=value) for name, value in headers]
    call = codec.call_of(codec.header_map(sent), b"", complete=True)
    assert call.headers.keys() == {name for name, _ in headers}
