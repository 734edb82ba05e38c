"""What the desk says to calls: which go, which wait, which are refused, and what takes whose place."""

import gzip
import json
from dataclasses import replace

import pytest

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute
from agentic_serving.router import words
from agentic_serving.router.config import Program
from agentic_serving.router.limits import Limits
from agentic_serving.router.words import Call, Go, Refuse
from tests.unit.router.desking import STRICT, Driver, chat, config, full, pod, text_of, turn

# Calls that ask no model, or cannot be read


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("HEAD", "/"),
        ("POST", "/tokenize"),
        ("POST", "/v1/messages/count_tokens?beta=true"),
    ],
)
def test_what_asks_no_model_goes_at_once_and_is_nobodys(method: str, path: str) -> None:
    d = full()
    d.ear.notes.clear()
    d.arrive(replace(turn("q", "a", 900), method=method, path=path))
    assert d.last["q"] == Go(call_id="q")
    assert (d.ear.notes, len(d.desk.sessions)) == ([], 2)


BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": text_of(900)}]}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"body": BODY[:100], "complete": False},
        {"body": BODY[:-1]},
        {"body": b"[" + BODY + b"]"},
        {"body": b""},
        {"body": b"[" * 100_000},
        {"body": b'{"messages": [' + b",".join([b"[]"] * 10_000) + b"]}"},
        {"body": gzip.compress(BODY), "headers": {"content-encoding": "gzip"}},
        {"body": BODY, "headers": {"content-encoding": "br"}},
        {"body": b"--x\r\n\r\n1\r\n--x--", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ],
    ids=[
        "cut",
        "malformed",
        "batch",
        "empty",
        "deep",
        "many-messages",
        "gzip",
        "br",
        "multipart",
    ],
)
def test_what_cannot_be_read_goes_at_once_and_is_counted(fields: dict[str, object]) -> None:
    d = full()
    d.arrive(replace(turn("q", "", 900), **fields))  # type: ignore[arg-type]
    assert d.last["q"] == Go(call_id="q")
    assert (d.decided("q"), d.ear.of(words.Came, "q")) == ([("Admit", "NotParsed")], [])


def test_a_cut_off_body_of_a_named_session_goes_to_its_session_and_is_never_held() -> None:
    d = full()
    d.arrive(turn("a0", "a", 100))
    home = d.last["a0"]
    d.end("a0", 100)
    grown = turn("a1", "a", 2_000)
    d.arrive(replace(grown, complete=False, headers={**grown.headers, "content-length": "8000"}))
    assert isinstance(home, Go)
    assert d.last["a1"] == Go(call_id="a1", endpoints=home.endpoints, others=home.others)
    assert (d.decided("a1"), d.came("a1").prompt_tokens) == (
        [("Admit", "NotParsed")],
        pytest.approx(2_000, abs=50),
    )


def test_half_a_surrogate_pair_is_read_as_engines_read_it() -> None:
    d = Driver()
    body = b'{"model": "m", "messages": [{"role": "user", "content": "cut \\ud83d"}]}'
    d.arrive(replace(turn("q", "a", 1), body=body))
    assert d.came("q").prompt_tokens > 0
    assert d.decided("q") != [("Admit", "NotParsed")]


# Whose a call is


def test_the_program_is_what_our_envoy_says() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 10, headers={PROGRAM_HEADER: "review"}))
    assert (d.came("q").program, d.came("q").run) == ("review", "review/a")


def test_children_are_of_their_parents_run_in_whichever_order_they_come() -> None:
    d = Driver()
    d.arrive(turn("c", "kid", 10, headers={"x-parent-session-id": "main"}))
    d.arrive(turn("m", "main", 10))
    d.arrive(turn("c2", "kid2", 10, headers={"x-parent-session-id": "main"}))
    assert {d.came(one).run for one in ("c", "m", "c2")} == {"default/main"}
    assert d.came("c2").parent == "default/main"


def test_an_unnamed_session_is_found_by_its_prompt() -> None:
    d = Driver()
    said = [("user", text_of(50, "mine"))]
    d.arrive(chat("q0", said))
    d.end("q0", 50)
    d.arrive(chat("q1", [*said, ("assistant", "yes"), ("user", "go on")]))
    d.arrive(chat("q2", [("user", text_of(50, "other"))]))
    assert d.came("q1").session == d.came("q0").session != d.came("q2").session
    assert d.came("q1").reused_tokens > 40


def test_a_response_that_goes_on_from_the_last_one_has_its_prompt() -> None:
    d = Driver()

    def response(call_id: str, text: str, **fields: str) -> Call:
        body = json.dumps({"model": "m", "input": text, **fields}).encode()
        return replace(turn(call_id, "a", 1), path="/v1/responses", body=body)

    d.arrive(response("q0", text_of(500)))
    d.end("q0", 500)
    d.arrive(response("q1", "go on", previous_response_id="resp_1"))
    assert (d.came("q1").reused_tokens, d.came("q1").prompt_tokens) == (500, pytest.approx(510, abs=10))


def test_the_trace_context_is_kept_within_bounds() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 1, headers={"traceparent": "00-" + "a" * 500}))
    assert len(d.came("q").traceparent) == 128


# Hold and release


def test_a_turn_that_finds_no_room_waits_and_goes_when_its_hold_is_over() -> None:
    d = full()
    d.now_s = 5.0
    d.arrive(turn("q", "a", 500, headers={PROGRAM_HEADER: "review"}))
    assert d.waits["q"].until_s == 65.0
    d.run_until(64.0)
    assert d.held("q")
    d.run_until(65.0)
    assert d.went("q")
    assert d.decided("q") == [("Hold", "WaitsForRoom"), ("Admit", "HeldLongEnough")]
    assert d.ear.of(words.Decided, "q")[1].held_s == 60.0


def test_a_turn_that_waits_goes_when_there_is_room() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.desk.declare(words.Declaration(program="default", session="b1", finished=True), 1.0)
    d.end("b1", 800)
    d.now_s = 2.0
    d.take(d.desk.tick(2.0))
    assert d.last["q"] == Go(call_id="q", endpoints=("10.0.0.2:8000",), others=("10.0.0.1:8000",))


def test_the_hint_is_for_the_pod_that_was_chosen() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 100))
    assert d.ear.of(words.Decided, "q")[0].replica in ("r0", "r1")
    assert d.last["q"] in [
        Go(call_id="q", endpoints=(f"10.0.0.{i}:8000",), others=(f"10.0.0.{3 - i}:8000",)) for i in (1, 2)
    ]


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 1}, {"generate": False}], ids=["warm-up", "nothing-generated"]
)
def test_side_requests_are_never_held(fields: dict[str, object]) -> None:
    d = full()
    d.arrive(turn("q", "a", 900, **fields))
    assert d.went("q")
    assert d.came("q").kind == "side"


def test_nobody_waits_longer_here_than_half_of_what_its_client_waits_at_all() -> None:
    d = full()
    d.arrive(turn("q", "a", 500, headers={"x-stainless-timeout": "40"}))
    assert d.waits["q"].until_s == 20.0


def test_siblings_wait_for_the_one_that_computes_what_they_share() -> None:
    d = Driver(config(policy=replace(STRICT, spread=False)))
    head = ("system", text_of(300, "shared"))
    for i in range(3):
        said = [head, ("user", text_of(20, f"task{i}"))]
        d.arrive(chat(f"k{i}", said, session=f"k{i}", headers={"x-parent-session-id": "main"}))
    assert (d.went("k0"), d.decided("k1"), d.held("k2")) == (True, [("Hold", "WaitsForSibling")], True)
    d.first_token("k0")
    assert d.last["k1"] == replace(d.last["k0"], call_id="k1")
    assert d.went("k2")


def test_a_program_of_higher_priority_goes_first() -> None:
    programs = (
        Program(route=ProgramRoute(namespace="ns", name="urgent"), priority=10),
        Program(route=ProgramRoute(namespace="ns", name="batch"), priority=-10),
    )
    d = full(config(programs=programs))
    for program in ("batch", "default", "urgent"):
        d.arrive(turn(program, "s", 500, headers={PROGRAM_HEADER: program}))
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    assert [one for one in ("batch", "default", "urgent") if d.went(one)] == ["urgent"]


# The queue's bounds


@pytest.mark.parametrize("limits", [Limits(max_held=2), Limits(max_held_bytes=5_000)], ids=["turns", "bytes"])
def test_past_its_bound_the_queue_refuses_and_says_when_to_come_again(limits: Limits) -> None:
    d = full(limits=limits)
    for i in range(4):
        d.arrive(turn(f"q{i}", f"s{i}", 500))
    refused = [name for name in d.last if isinstance(d.last[name], Refuse)]
    assert refused == ["q2", "q3"]
    told = d.last["q2"]
    assert isinstance(told, Refuse)
    assert (told.status, told.retry_after_s) == (429, 30)
    assert d.decided("q2") == [("Refuse", "QueueFull")]
    assert d.done("q2").outcome == "Refused"
    d.run_until(301.0)
    assert d.went("q0")
    assert d.went("q1")


# A client that tries again


def test_a_counted_retry_takes_the_place_of_the_held_call() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.now_s = 10.0
    d.arrive(turn("q2", "a", 500, headers={"x-stainless-retry-count": "1"}))
    told = d.last["q"]
    assert isinstance(told, Refuse)
    assert (told.status, told.message) == (409, "replaced by the client's own retry")
    assert (d.held("q2"), d.waits["q2"].until_s) == (True, 300.0)
    assert (d.decided("q")[-1], d.done("q").outcome) == (("Refuse", "ReplacedByRetry"), "Refused")


def test_an_equal_prompt_beside_one_that_is_still_waited_for_is_no_retry() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.arrive(turn("q2", "a", 500))
    assert (d.held("q"), d.held("q2")) == (True, True)


def test_who_left_and_comes_again_finds_its_place_before_those_that_came_since() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.arrive(turn("other", "o", 500))
    d.closed("q")
    assert d.done("q").outcome == "ClientLeft"
    d.now_s = 5.0
    d.arrive(turn("q2", "a", 500))
    assert d.waits["q2"].until_s == 300.0
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    assert (d.went("q2"), d.went("other"), "q" in d.last) == (True, False, False)


def test_who_left_for_good_loses_its_place() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.closed("q")
    d.run_until(11.0)
    assert len(d.desk.scheduler.waiting) == 0
    d.arrive(turn("q2", "a", 500))
    assert d.waits["q2"].until_s == 311.0


def test_room_is_not_given_to_one_that_left() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.arrive(turn("other", "o", 500))
    d.closed("q")
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    assert (d.went("other"), d.last.get("q")) == (True, None)


# Observe


def test_observe_lets_everything_go_and_tells_what_enforce_would_do() -> None:
    d = full(config("Observe"))
    d.arrive(turn("q", "a", 500))
    assert d.last["q"] == Go(call_id="q")
    assert d.decided("q") == [("Hold", "WaitsForRoom"), ("Admit", "Observing")]
    d.arrive(turn("q2", "c", 50))
    assert d.last["q2"] == Go(call_id="q2")
    assert d.decided("q2")[0][0] == "Admit"


def test_observe_follows_the_pod_that_really_got_the_call() -> None:
    d = Driver(config("Observe"))
    d.arrive(turn("q", "a", 300))
    asked = d.ear.of(words.Decided, "q")[0].replica
    other = {"r0": "r1", "r1": "r0"}[asked]
    d.end("q", 300, endpoint={"r0": "10.0.0.1:8000", "r1": "10.0.0.2:8000"}[other])
    assert d.done("q").replica == other
    assert d.desk.scheduler.ledger.where("default/a") == {other: 310}


def test_when_enforce_becomes_observe_what_is_held_goes_at_once() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.configure(mode="Observe")
    assert d.last["q"] == Go(call_id="q")
    assert d.decided("q") == [("Hold", "WaitsForRoom"), ("Admit", "Observing")]
