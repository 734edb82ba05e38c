"""The scheduler in Envoy's chain: what it is told of each call, and what of its words reaches the engine."""

import json
from typing import Any

import pytest

from agentic_serving.api.matching import PROGRAM_HEADER
from tests.e2e.router.conftest import Chain
from tests.e2e.routerkit.upstream import PAUSE, STATUS

CLAUDE = ("X-Claude-Code-Session-Id", "c-1")
APIS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_scheduler_hears_of_a_call_from_its_body_to_its_usage(
    calm: Chain, path: str, stream: bool
) -> None:
    body = {"model": "m", "stream": stream, "messages": []}
    answer = calm.envoy.post([CLAUDE, (PAUSE, "0.1")], path=f"{path}?a=b", body=body)
    assert answer.code == 200
    arrived = calm.heard(answer, "arrive")
    assert (arrived["path"], arrived["complete"]) == (f"{path}?a=b", True)
    assert arrived["n_bytes"] == answer.arrived["n_bytes"]
    calm.heard(answer, "closed")
    usage = calm.heard(answer, "usage")
    tokens = {key: usage[key] for key in ("prompt_tokens", "cached_tokens", "output_tokens")}
    assert tokens == {"prompt_tokens": 11, "cached_tokens": 5, "output_tokens": 7}
    assert (usage["endpoint"], usage["status"], usage["aborted"]) == (calm.echo.endpoint, 200, False)
    (call_id,) = answer.header("x-request-id")
    order = [event["event"] for event in calm.scheduler.of(call_id) if event["event"] != "usage"]
    assert order == ["arrive", *(["first_token"] if stream else []), "closed"]


def test_events_that_say_nothing_yet_are_no_token(calm: Chain) -> None:
    """The Responses API begins with `response.created`, which engines send before the prompt is computed."""
    body = json.dumps({"model": "m", "stream": True, "input": "hi"})
    with calm.envoy.connected() as connection:
        connection.request("POST", "/v1/responses", body, {"x-tag": "created", PAUSE: "0.3"})
        response = connection.getresponse()
        assert b"response.created" in response.readline()
        call_id = calm.scheduler.tagged("created")
        assert calm.scheduler.of(call_id, "first_token") == []
        calm.scheduler.awaited(call_id, "first_token")
        assert b"response.output_text.delta" in response.read()


def test_an_error_has_no_first_token_however_it_is_sent(calm: Chain) -> None:
    answer = calm.envoy.post([(STATUS, "429")], path=APIS[0], body={"model": "m", "stream": True})
    assert answer.code == 429
    assert calm.heard(answer, "usage")["status"] == 429
    (call_id,) = answer.header("x-request-id")
    assert calm.scheduler.of(call_id, "first_token") == []


@pytest.mark.parametrize(
    ("sent", "program"), [([CLAUDE], "coder"), ([], "default")], ids=["coder", "default"]
)
def test_envoy_names_the_program_to_the_scheduler_and_not_to_the_engine(
    calm: Chain, sent: list[tuple[str, str]], program: str
) -> None:
    answer = calm.envoy.post([*sent, (PROGRAM_HEADER, "forged")])
    headers: Any = calm.heard(answer, "arrive")["headers"]
    assert headers[PROGRAM_HEADER] == program
    assert answer.header(PROGRAM_HEADER) == []


def test_headers_of_the_scheduler_reach_what_comes_after_it(calm: Chain) -> None:
    answer = calm.envoy.post([("x-test-set", "x-gateway-inference-objective=urgent")])
    assert answer.header("x-gateway-inference-objective") == ["urgent"]


def test_a_body_that_the_scheduler_rewrites_arrives_whole(calm: Chain) -> None:
    answer = calm.envoy.post([("x-test-body", '{"model": "m", "priority": 3}')])
    assert (answer.code, answer.arrived["n_bytes"]) == (200, len('{"model": "m", "priority": 3}'))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "/v1/messages",
            b'{"type":"error","error":{"type":"rate_limit_error","message":"too many turns wait"}}',
        ),
        (
            "/v1/chat/completions",
            b'{"error":{"type":"rate_limit_error","message":"too many turns wait","param":null,"code":"rate_limit_exceeded"}}',
        ),
    ],
)
def test_a_refusal_is_in_the_words_of_the_api(calm: Chain, path: str, text: bytes) -> None:
    answer = calm.envoy.post([("x-test-refuse", "429")], path=path)
    assert (answer.code, answer.body) == (429, text)
    assert (answer.headers["retry-after"], answer.headers["content-type"]) == ("7", "application/json")


def test_a_request_without_a_body_is_a_call_too(calm: Chain) -> None:
    answer = calm.envoy.get("/v1/models")
    assert (answer.code, calm.heard(answer, "arrive")["n_bytes"]) == (200, 0)
    calm.heard(answer, "closed")


@pytest.mark.parametrize("where", ["arrive", "first_token", "closed", "usage"])
def test_an_exception_of_the_scheduler_fails_no_request(calm: Chain, where: str) -> None:
    body = {"model": "m", "stream": True, "messages": []}
    answer = calm.envoy.post([("x-test-raise", where), (PAUSE, "0.1")], body=body)
    assert answer.code == 200
    for event in ("first_token", "closed", "usage"):
        calm.heard(answer, event)
