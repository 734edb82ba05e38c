"""Held calls through the real Envoy: longer than any of its timeouts, let go by news of others, left by their clients."""

import http.client
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.e2e.localcluster.process import wait_until
from tests.e2e.router.conftest import Chain, chain

MB = 1_000_000


@pytest.fixture(scope="module")
def short() -> Iterator[Chain]:
    """A stack whose requests may take one second, and turns be held for a minute."""
    with chain() as found:
        yield found


def test_a_held_call_outlives_every_timeout_of_a_request(short: Chain) -> None:
    answer = short.envoy.post([("x-test-hold-s", "3")])
    assert answer.code == 200
    assert answer.arrived["n_bytes"] > 1000


def test_what_the_scheduler_says_in_the_end_counts(short: Chain) -> None:
    headers = [("x-test-hold-s", "1.5"), ("x-test-set", "x-gateway-inference-objective=urgent")]
    assert short.envoy.post(headers).header("x-gateway-inference-objective") == ["urgent"]


def test_a_call_without_a_body_can_be_held(short: Chain) -> None:
    with ThreadPoolExecutor() as pool:
        held = pool.submit(
            short.envoy.send, "GET", "/v1/models", [("x-test-hold", "g"), ("x-tag", "bodiless")]
        )
        wait_until(lambda: bool(short.scheduler.tagged("bodiless")), timeout_s=10, what="the held call")
        short.envoy.post([("x-test-let-go", "g")])
        assert held.result().code == 200


def test_one_call_lets_others_go(short: Chain) -> None:
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(short.envoy.post, [("x-test-hold", "w"), ("x-tag", f"w{i}")]) for i in range(5)]
        for i in range(5):
            wait_until(lambda i=i: bool(short.scheduler.tagged(f"w{i}")), timeout_s=10, what="a held call")
        assert not any(one.done() for one in held)
        assert short.envoy.post([("x-test-let-go", "w")]).code == 200
        assert [one.result().code for one in held] == [200] * 5


def test_a_client_that_leaves_while_it_is_held_is_gone_at_once(short: Chain) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", short.envoy.http_port, timeout=30)
    body = json.dumps({"model": "m", "messages": []})
    connection.request("POST", "/v1/chat/completions", body, {"x-test-hold": "left", "x-tag": "left"})
    wait_until(lambda: bool(short.scheduler.tagged("left")), timeout_s=10, what="the held call")
    connection.close()
    call_id = short.scheduler.tagged("left")
    short.scheduler.awaited(call_id, "closed")
    usage = short.scheduler.awaited(call_id, "usage")
    assert (usage["status"], usage["endpoint"]) == (0, "")
    assert [event["event"] for event in short.scheduler.of(call_id) if event["event"] != "usage"] == [
        "arrive",
        "closed",
    ]


def test_the_scheduler_keeps_nothing_of_a_held_body(short: Chain) -> None:
    """Ten thousand held turns of 400 KB would be 4 GB."""
    process = psutil.Process(short.scheduler.process.pid)
    n, size = 40, 3 * MB
    turn = {"model": "m", "messages": [{"role": "user", "content": "x" * size}]}
    with ThreadPoolExecutor(n) as pool:
        before = process.memory_info().rss
        tags = [f"big{i}" for i in range(n)]
        held = [
            pool.submit(short.envoy.post, [("x-test-hold", "big"), ("x-tag", tag)], body=turn) for tag in tags
        ]
        for tag in tags:
            wait_until(lambda tag=tag: bool(short.scheduler.tagged(tag)), timeout_s=20, what="a held call")
        grown = process.memory_info().rss - before
        short.envoy.post([("x-test-let-go", "big")])
        assert {one.result().code for one in held} == {200}
    assert grown < n * size / 2


def test_calls_that_a_hung_scheduler_holds_go_on(short: Chain) -> None:
    with ThreadPoolExecutor() as pool:
        held = pool.submit(short.envoy.post, [("x-test-hold", "hung"), ("x-tag", "hung")])
        wait_until(lambda: bool(short.scheduler.tagged("hung")), timeout_s=10, what="the held call")
        psutil.Process(short.scheduler.process.pid).send_signal(signal.SIGSTOP)
        try:
            answer = held.result(timeout=20)  # the hold is 600 s
        finally:
            psutil.Process(short.scheduler.process.pid).send_signal(signal.SIGCONT)
    assert answer.code == 200
    short.heard(answer, "closed")


def test_a_scheduler_that_ends_lets_its_calls_go() -> None:
    with chain() as own, ThreadPoolExecutor() as pool:
        held = pool.submit(own.envoy.post, [("x-test-hold", "end"), ("x-tag", "end")])
        wait_until(lambda: bool(own.scheduler.tagged("end")), timeout_s=10, what="the held call")
        own.scheduler.process.terminate(grace_s=10)
        assert held.result(timeout=20).code == 200
