"""Whatever a client sends, the scheduler answers no 5xx of its own, and the engine gets what was sent."""

import gzip
import json

import pytest

from agentic_serving.router.processor import MAX_BODY_BYTES
from tests.e2e.localcluster.process import wait_until
from tests.e2e.router.conftest import Chain

JSON = [("content-type", "application/json")]
CHAT = "/v1/chat/completions"
LIMIT_BYTES = MAX_BODY_BYTES


def turn(**more: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}).encode()


def deep(n: int) -> bytes:
    return b'{"model": "m", "messages": ' + b"[" * n + b"]" * n + b"}"


BODIES: dict[str, bytes] = {
    "not-json": b"{'model': m, ...",
    "truncated-json": turn()[:-7],
    "not-an-object": b"[1, 2, 3]",
    "a-number": b"1e999",
    "empty": b"",
    "nul-bytes": b"\x00" * 1000,
    "not-utf-8": b'{"model": "\xff\xfe\xed\xa0\x80", "messages": []}',
    "lone-surrogates": b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800\\udfff\\udc00"}]}',
    "bidi-and-zero-width": turn(user="\u202e\u200b\u0000\U000e0001").replace(b"hello", "\u202e".encode() * 99),
    "wrong-types": b'{"model": 7, "messages": "hello", "stream": "yes", "tools": {"a": []}, "max_tokens": -1e308}',
    "messages-of-everything": b'{"model": "m", "messages": [null, 1, "a", [], {}, {"role": null, "content": {"a": 1}}]}',
    "ten-thousand-messages": turn(messages=[{"role": "user", "content": f"m{i}"} for i in range(10_000)]),
    "ten-thousand-tools": turn(tools=[{"type": "function", "function": {"name": f"t{i}"}} for i in range(10_000)]),
    "deep": deep(100_000),
    "deep-but-parsed": deep(900),
    "repeated-keys": b'{"model": "a", "model": "b", "messages": [], "messages": [{"role": "user", "content": "x"}]}',
    "huge-number": b'{"model": "m", "messages": [], "n": ' + b"9" * 100_000 + b"}",
    "gzip": gzip.compress(turn()),
    "zstd": bytes.fromhex("28b52ffd") + b"\x00" * 64,
    "a-gzip-bomb": gzip.compress(b"0" * 50_000_000),
    "just-below-the-limit": turn(user="x" * (LIMIT_BYTES - 200_000)),
}  # fmt: skip
ENCODINGS = {"gzip": "gzip", "a-gzip-bomb": "gzip", "zstd": "zstd"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("name", BODIES)
def test_any_body_passes(calm: Chain, name: str, path: str) -> None:
    encoding = [("content-encoding", ENCODINGS[name])] if name in ENCODINGS else []
    answer = calm.envoy.send("POST", path, [*JSON, *encoding], BODIES[name])
    assert (answer.code, answer.arrived["n_bytes"]) == (200, len(BODIES[name]))
    calm.heard(answer, "closed")


def test_a_body_over_the_limit_passes_unread(calm: Chain) -> None:
    body = turn(user="x" * (LIMIT_BYTES + 3_000_000))
    answer = calm.envoy.send("POST", CHAT, [*JSON, ("x-test-body", "{}")], body)
    arrived = calm.heard(answer, "arrive")
    assert (answer.code, answer.arrived["n_bytes"]) == (200, len(body))  # nor can it be replaced
    assert (arrived["n_bytes"], arrived["complete"]) == (0, False)
    calm.heard(answer, "closed")


def test_a_body_over_the_limit_can_be_held_and_hinted(calm: Chain) -> None:
    body = turn(user="x" * (LIMIT_BYTES + 3_000_000))
    more = [("x-test-hold-s", "1.2"), ("x-test-set", "x-gateway-inference-objective=urgent")]
    answer = calm.envoy.send("POST", CHAT, [*JSON, *more], body)
    assert (answer.code, answer.arrived["n_bytes"]) == (200, len(body))
    assert answer.header("x-gateway-inference-objective") == ["urgent"]


@pytest.mark.parametrize(
    "n_bytes", [1_000_000, LIMIT_BYTES + 1_000_000, 3 * LIMIT_BYTES], ids=["short", "over", "far-over"]
)
def test_a_body_whose_length_is_not_known_before_passes(calm: Chain, n_bytes: int) -> None:
    body = turn(user="x" * n_bytes)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:], b""))
    with calm.envoy.connected() as connection:
        connection.putrequest("POST", CHAT)
        connection.putheader("content-type", "application/json")
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders(chunks)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["n_bytes"]) == (200, len(body))


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("POST", "/v1/audio/transcriptions", "multipart/form-data; boundary=b"),
        ("POST", "/v1/embeddings", "application/json"),
        ("POST", "/v1/messages/count_tokens", "application/json"),
        ("POST", "/tokenize", "application/json"),
        ("POST", "/v1/chat/completions/../../../etc/passwd", "application/json"),
        ("POST", "/v1/chat/completions?a=%00%ff%2e%2e", "application/json"),
        ("POST", "/v1/chat/completions", "text/plain; charset=utf-16"),
        ("GET", "/health", ""),
        ("GET", "/", ""),
    ],
)
def test_any_path_and_kind_of_content_passes(calm: Chain, method: str, path: str, content_type: str) -> None:
    body = b"--b\r\n\r\nnot what you think\r\n--b--\r\n" if method == "POST" else b""
    answer = calm.envoy.send(method, path, [("content-type", content_type)] if content_type else [], body)
    assert answer.code in (200, 400)  # Envoy itself refuses a NUL in a path
    if answer.code == 200:
        calm.heard(answer, "closed")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("x-odd", "caf\xe9\xff")], id="latin-1"),
        pytest.param([("x-odd", "a" * 30_000)], id="long-value"),
        pytest.param([(f"x-odd-{i}", "a") for i in range(80)], id="many"),
        pytest.param([("x-odd", str(i)) for i in range(80)], id="repeated"),
        pytest.param([("traceparent", "00-" + "z" * 400)], id="trace-context"),
        pytest.param([("x-request-id", "mine"), ("x-request-id", "mine")], id="request-id"),
        pytest.param([("x-test-set", "x-bad=a\xe9b")], id="a-header-that-cannot-be-set"),
        pytest.param([("x-test-set", ":path=/admin")], id="a-header-that-must-not-be-set"),
        pytest.param([("x-test-set", "host=evil")], id="another-that-must-not-be-set"),
    ],
)
def test_any_header_passes(calm: Chain, headers: list[tuple[str, str]]) -> None:
    answer = calm.envoy.post(headers)
    assert (answer.code, answer.arrived["path"]) == (200, CHAT)
    assert "evil" not in answer.header("host")
    calm.heard(answer, "closed")


def test_a_client_that_stops_in_the_middle_of_its_body_leaves_nothing(calm: Chain) -> None:
    """It never was a call: the scheduler had seen its headers only."""
    n_before = len(calm.scheduler.events)
    with calm.envoy.connected() as connection:
        connection.putrequest("POST", CHAT)
        connection.putheader("content-length", "1000")
        connection.putheader("x-tag", "half")
        connection.endheaders(b'{"model": ')
    answer = calm.envoy.post([("x-tag", "after")])
    calm.heard(answer, "closed")
    wait_until(
        lambda: any(e["event"] == "usage" and e["status"] == 0 for e in calm.scheduler.events[n_before:]),
        timeout_s=10,
        what="the end of the half request",
    )
    assert calm.scheduler.tagged("half") == ""
