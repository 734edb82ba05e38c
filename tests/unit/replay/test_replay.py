"""A whole replay against a recording endpoint: what is sent, in which order, and what is made of trouble."""

import asyncio
from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.bodies import Api
from agentic_serving.replay.clients import Client
from agentic_serving.replay.driver import replay, select
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import Event, ProgramEnded, TurnEnded, TurnStarted
from agentic_serving.replay.report import from_data
from agentic_serving.workload import Program, read

from .conftest import Endpoint

pytestmark = pytest.mark.timeout(60)  # a wait that never ends fails here, not after five minutes

TRACES = Path(__file__).parents[2] / "traces"
SESSIONS = {p.id: p for p in read(TRACES / "claude_code.jsonl")}
SHORT, LONGER, FAN_OUT = SESSIONS["trace_0336"], SESSIONS["trace_0091"], SESSIONS["trace_0277"]


def options(endpoint: Endpoint, **changes: Any) -> Options:
    base = Options(
        endpoint=endpoint.url, model="m", token_scale=0.02, gap_scale=0, max_output_tokens=64, retries=2
    )
    return changed(base, **changes)


def failing(status: int, times: int, **headers: str) -> Callable[..., Any]:
    """The first `times` requests are refused."""
    left = iter(range(times))

    async def script(_request: web.Request, _body: dict[str, Any]) -> web.Response | None:
        if next(left, None) is None:
            return None
        return web.json_response({"error": {"message": "not now"}}, status=status, headers=headers)

    return script


@pytest.mark.parametrize(
    ("client", "path", "api"),
    [
        ("claude-code", "/v1/messages?beta=true", "messages"),
        ("codex", "/v1/responses", "responses"),
        ("opencode", "/v1/chat/completions", "chat"),
        ("claude-code", "/v1/completions", "completions"),
    ],
)
async def test_a_session_is_sent_turn_by_turn(
    endpoint: Endpoint, client: Client, path: str, api: Api
) -> None:
    found = await replay([SHORT], options(endpoint, client=client, api=api))
    title = 1 if client == "opencode" else 0
    assert [r.path for r in endpoint.requests] == [path] * (4 + title)
    assert all(r.body["stream"] and r.body["model"] == "m" for r in endpoint.requests)
    assert found.summary["turns"]["count"] == 4
    assert found.summary["sideRequests"] == title
    assert found.summary["tokens"]["cached"] == 4 * 4
    assert found.n_errors == 0
    recorded = [t.output_tokens for t in SHORT.sessions[0].turns]
    asked = [r.body.get("max_tokens", r.body.get("max_output_tokens")) for r in endpoint.requests[title:]]
    assert asked == [min(64, -(-n * 2 // 100)) for n in recorded]


async def test_opencode_has_a_title_written_first_without_tools(endpoint: Endpoint) -> None:
    await replay([SHORT], options(endpoint, client="opencode"))
    title, first, *_ = endpoint.requests
    assert "tools" not in title.body
    assert "tools" in first.body
    assert title.headers["x-session-id"] == first.headers["x-session-id"]


async def test_mixed_clients_take_turns(endpoint: Endpoint) -> None:
    await replay(list(SESSIONS.values())[:3], options(endpoint, client="mixed", sessions=3))
    paths = {r.path for r in endpoint.requests}
    assert paths == {"/v1/messages?beta=true", "/v1/responses", "/v1/chat/completions"}


async def test_sub_agents_run_side_by_side_and_the_parent_waits_for_all(endpoint: Endpoint) -> None:
    together, all_in = 0, asyncio.Event()

    async def script(request: web.Request, _body: dict[str, Any]) -> None:
        nonlocal together
        if "x-claude-code-agent-id" in request.headers and together < 3:
            together += 1
            if together == 3:
                all_in.set()
            await all_in.wait()  # three siblings are here at once, or the test times out

    endpoint.script = script
    ends: dict[str, int] = {}
    order: list[TurnStarted] = []

    def see(event: Event) -> None:
        if isinstance(event, TurnStarted):
            order.append(event)
        elif isinstance(event, TurnEnded):
            ends[event.record.session] = len(order)

    await replay([FAN_OUT], options(endpoint), on_event=see)
    join = FAN_OUT.sessions[0].turns[1]
    joined = order.index(TurnStarted(FAN_OUT.id, FAN_OUT.id, 1))
    assert len(join.after) == 3
    assert all(ends[t.session] <= joined for t in join.after)


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_a_refused_turn_is_sent_again_and_counted(endpoint: Endpoint, status: int) -> None:
    endpoint.script = failing(status, 2, **{"Retry-After": "0"})
    found = await replay([SHORT], options(endpoint))
    assert found.n_errors == 0
    assert found.summary["retries"] == {f"HTTP {status}": 2}
    first, second, third, fourth = endpoint.requests[:4]
    assert first.body == second.body == third.body != fourth.body
    assert [r.headers["X-Stainless-Retry-Count"] for r in endpoint.requests[:4]] == ["0", "1", "2", "0"]


async def test_retry_after_is_waited_for(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("agentic_serving.replay.transport.asyncio.sleep", sleep)
    endpoint.script = failing(429, 1, **{"Retry-After": "7"})
    await replay([SHORT], options(endpoint))
    assert [w for w in waits if w > 1] == [7.0]


async def test_a_turn_that_fails_for_good_is_an_error_and_the_session_goes_on(endpoint: Endpoint) -> None:
    endpoint.script = failing(400, 1)
    found = await replay([SHORT], options(endpoint))
    assert found.summary["errors"] == {"HTTP 400": 1}
    assert "not now" in found.summary["errorDetails"]["HTTP 400"]
    assert found.summary["turns"]["count"] == 4
    assert found.summary["turns"]["failed"] == 1
    assert found.summary["tasks"]["failed"] == 1
    assert found.summary["retries"] == {}, "a 400 is not worth a retry"


async def test_a_stream_that_breaks_off_is_noticed(endpoint: Endpoint) -> None:
    async def script(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: content_block_delta\ndata: {"delta": {"text": "the"}}\n\n')
        return response

    endpoint.script = script
    found = await replay([SHORT], options(endpoint, retries=0))
    assert found.summary["errors"] == {"stream broken": 4}


async def test_a_turn_that_takes_too_long_is_a_timeout(endpoint: Endpoint) -> None:
    async def script(_request: web.Request, _body: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    endpoint.script = script
    found = await replay([SHORT], options(endpoint, retries=0, timeout_s=0.05))
    assert found.summary["errors"] == {"timeout": 4}


async def test_after_its_duration_a_replay_ends_between_turns(endpoint: Endpoint) -> None:
    events: list[Event] = []
    given = options(endpoint, duration_s=0.3, gap_scale=1.0, max_gap_s=30, concurrency=1)
    found = await replay([LONGER], given, on_event=events.append)
    assert 1 <= found.summary["turns"]["count"] < len(LONGER.sessions[0].turns)
    assert found.summary["sessions"]["unfinished"] == 1
    assert found.summary["run"]["programsCut"] == 1
    assert [e.whole for e in events if isinstance(e, ProgramEnded)] == [False]
    assert found.n_errors == 0


async def test_a_stop_from_outside_drops_what_does_not_end_in_time_and_says_so(endpoint: Endpoint) -> None:
    stop = asyncio.Event()

    async def script(_request: web.Request, _body: dict[str, Any]) -> None:
        stop.set()
        await asyncio.Event().wait()

    endpoint.script = script
    found = await replay([SHORT], options(endpoint, stop_s=0.05), stop=stop)
    assert found.summary["turns"]["count"] == 0
    assert found.summary["run"]["turnsDropped"] == 1


async def test_with_time_left_programs_start_over_as_new_sessions(endpoint: Endpoint) -> None:
    laps = asyncio.Event()

    def see(event: Event) -> None:
        if isinstance(event, TurnEnded) and event.record.lap == 2:
            laps.set()

    await replay([SHORT], options(endpoint, duration_s=3), on_event=see)
    assert laps.is_set()
    ids = {r.headers["X-Claude-Code-Session-Id"] for r in endpoint.requests}
    firsts = {str(r.body["messages"][0]) for r in endpoint.requests if len(r.body["messages"]) == 1}
    assert len(ids) >= 3
    assert len(firsts) >= 3, "a new lap must not hit what the last one left cached"


async def test_no_more_programs_run_at_once_than_allowed(endpoint: Endpoint) -> None:
    running = most = 0

    def see(event: Event) -> None:
        nonlocal running, most
        name = type(event).__name__
        running += (name == "ProgramStarted") - (name == "ProgramEnded")
        most = max(most, running)

    await replay(
        [p for p in SESSIONS.values() if len(p.sessions) == 1], options(endpoint, concurrency=2), on_event=see
    )
    assert most == 2


async def test_open_loop_requests_come_at_their_time_whatever_is_still_running(endpoint: Endpoint) -> None:
    everyone = asyncio.Event()

    async def script(_request: web.Request, _body: dict[str, Any]) -> None:
        if len(endpoint.requests) == 20:
            everyone.set()
        await everyone.wait()  # none is answered before the last has come

    endpoint.script = script
    answers = [p for p in read(TRACES / "mooncake.jsonl") if p.sessions[0].turns[0].output_tokens > 100]
    chosen = answers[:20]
    found = await replay(chosen, options(endpoint, concurrency=1, time_scale=0.001, api="chat"))
    assert found.summary["turns"]["count"] == 20
    assert found.n_errors == 0


async def test_the_tokenizer_is_measured_and_prompts_sized_by_it(endpoint: Endpoint) -> None:
    found = await replay([SHORT], options(endpoint, token_scale=0.2, api="completions"))
    assert found.summary["run"]["tokensPerWord"] == 1.0  # the endpoint counts words
    assert abs(found.summary["tokens"]["promptErrorPercent"]) < 1
    twice = await replay([SHORT], options(endpoint, token_scale=0.2, api="completions", tokens_per_word=2.0))
    assert twice.summary["tokens"]["prompt"] == pytest.approx(found.summary["tokens"]["prompt"] / 2, rel=0.02)


async def test_an_endpoint_that_nobody_serves_is_refused(unused_tcp_port: int) -> None:
    given = Options(endpoint=f"http://127.0.0.1:{unused_tcp_port}", model="m", retries=0)
    with pytest.raises(InvalidInput, match=r"--endpoint: .*cannot connect"):
        await replay([SHORT], given)


async def test_a_baseline_gives_slowdowns_and_must_fit(endpoint: Endpoint) -> None:
    alone = await replay([SHORT], options(endpoint, seed=1))
    again = from_data(alone.data(), name="alone.json")
    assert "slowdown" not in alone.summary["tasks"]
    found = await replay([SHORT], options(endpoint, seed=2), baseline=again)
    assert found.summary["turns"]["slowdown"]["count"] == 4
    assert found.summary["tasks"]["slowdown"]["p50"] > 0
    with pytest.raises(
        InvalidInput, match=r"--baseline: was made with tokenScale 0\.02, this replay has 0\.03"
    ):
        await replay([SHORT], options(endpoint, token_scale=0.03), baseline=again)


def test_the_seed_draws_programs() -> None:
    programs: list[Program] = list(SESSIONS.values())
    given = Options(endpoint="http://x", model="m", sessions=5)
    assert select(programs, given) == tuple(programs[:5])
    drawn = select(programs, changed(given, seed=3))
    assert drawn == select(programs, changed(given, seed=3)) != select(programs, changed(given, seed=4))
