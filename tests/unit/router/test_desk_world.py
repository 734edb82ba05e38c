"""What the desk makes of pods, configurations and declarations, and what it shows of itself."""

import gc
from typing import Any

import pytest

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.router import words
from agentic_serving.router.config import Program
from agentic_serving.router.dialect import because, picker_headers
from agentic_serving.router.places import Places
from agentic_serving.router.words import Declaration, Go
from tests.unit.router.desking import STRICT, Driver, chat, config, full, pod, turn

# Pods


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ([], [pod("r0")], [("ReplicaSeen", "r0")]),
        ([pod("r0")], [pod("r0", running=5, waiting=2)], []),
        ([pod("r0")], [pod("r0", capacity_tokens=2_000)], [("ReplicaSeen", "r0")]),
        ([pod("r0")], [pod("r0", ready=False)], [("ReplicaGone", "r0")]),
        ([pod("r0")], [pod("r0", draining=True)], [("ReplicaGone", "r0")]),
        ([pod("r0")], [], [("ReplicaGone", "r0")]),
        ([pod("r0")], [pod("r0", endpoint="10.9.9.9:8000")], [("ReplicaGone", "r0"), ("ReplicaSeen", "r0")]),
        ([], [pod("r0", role="Prefill"), pod("r1", role="Decode")], [("ReplicaSeen", "r1")]),
        ([], [pod("r0", capacity_tokens=None)], []),
    ],
    ids=[
        "new",
        "same",
        "resized",
        "not-ready",
        "draining",
        "gone",
        "another-with-its-name",
        "prefill-takes-no-clients-calls",
        "nobody-knows-its-cache",
    ],
)
def test_what_the_scheduler_hears_of_pods(
    before: list[words.Pod], now: list[words.Pod], told: list[tuple[str, str]]
) -> None:
    places = Places()
    list(places.tell(before, None, 256))
    events: list[Any] = list(places.tell(now, None, 256))
    assert [(type(one).__name__, one.name) for one in events] == told


def test_a_pod_that_does_not_say_its_cache_has_the_configured_one() -> None:
    (seen,) = Places().tell([pod("r0", capacity_tokens=None)], 5_000, 64)
    assert seen == ev.ReplicaSeen(name="r0", capacity_tokens=5_000, max_seqs=64)


def test_before_any_pod_is_known_every_call_goes_at_once() -> None:
    d = Driver(n_pods=0)
    d.arrive(turn("q", "a", 900))
    assert d.last["q"] == Go(call_id="q")
    assert d.decided("q") == [("Admit", "NoReplica")]


def test_a_new_turn_does_not_go_to_a_pod_that_is_drained_and_the_old_one_ends_there() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 100))
    at = d.ear.of(words.Decided, "q")[0].replica
    d.pods(*(pod(name, draining=name == at) for name in ("r0", "r1")))
    d.end("q", 100)
    assert (d.done("q").outcome, d.done("q").replica) == ("Answered", at)
    d.arrive(turn("q1", "a", 120))
    assert d.ear.of(words.Decided, "q1")[0].replica not in (at, "")


def test_what_waits_goes_to_a_pod_that_comes() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    assert d.last["q"] == Go(
        call_id="q", endpoints=("10.0.0.3:8000",), others=("10.0.0.1:8000", "10.0.0.2:8000")
    )


def test_when_all_pods_go_what_waits_still_goes_in_time() -> None:
    d = full()
    d.arrive(turn("q", "a", 500))
    d.pods()
    d.run_until(300.0)
    assert d.last["q"] == Go(call_id="q")


# Configuration


def test_new_rules_are_for_calls_to_come_and_those_held_stay() -> None:
    d = full()
    d.arrive(turn("old", "a", 500, headers={PROGRAM_HEADER: "review"}))
    programs = (Program(route=ProgramRoute(namespace="ns", name="review"), max_hold_s=10.0),)
    d.configure(programs=programs)
    d.arrive(turn("new", "b", 500, headers={PROGRAM_HEADER: "review"}))
    assert (d.held("old"), d.waits["old"].until_s, d.waits["new"].until_s) == (True, 60.0, 10.0)


def test_a_program_that_may_not_be_held_is_not() -> None:
    d = full()
    d.configure(programs=(Program(route=ProgramRoute(namespace="ns", name="live"), max_hold_s=0.0),))
    d.arrive(turn("q", "a", 500, headers={PROGRAM_HEADER: "live"}))
    assert d.went("q")


def test_a_new_policy_counts_at_once() -> None:
    d = full()
    d.configure(policy=Policy(hold=False))
    d.arrive(turn("q", "a", 500))
    assert d.went("q")


def test_a_changed_capacity_estimate_is_told() -> None:
    d = Driver(config(capacity_tokens=None), n_pods=0)
    d.pods(pod("r0", capacity_tokens=None))
    d.configure(capacity_tokens=700)
    assert d.desk.live(0.0).replicas[0].capacity_tokens == 700


def test_programs_are_idle_after_their_own_times() -> None:
    programs = (
        Program(route=ProgramRoute(namespace="ns", name="short"), idle_s=60.0),
        Program(route=ProgramRoute(namespace="ns", name="long"), idle_s=7_200.0),
    )
    d = Driver(config(programs=programs))
    for program in ("short", "long", "default"):
        d.arrive(turn(program, "s", 50, headers={PROGRAM_HEADER: program}))
        d.end(program, 50)
    left = []
    for at_s in (62.0, 1_802.0, 7_202.0):
        d.run_until(at_s)
        left.append(sorted(d.desk._book.roster.runs))
    assert left == [["default/s", "long/s"], ["long/s"], []]


# Declarations


def test_what_is_left_of_a_task_puts_the_shorter_one_first() -> None:
    d = full()
    for name, seconds in (("long", 500.0), ("short", 5.0)):
        d.arrive(turn(f"{name}0", name, 10))
        d.end(f"{name}0", 10)
        d.desk.declare(Declaration(program="default", session=name, remaining_s=seconds), d.now_s)
    d.desk.scheduler.service.restore_rate(100.0)
    d.desk.scheduler.absence._trust["default"] = 1.0
    for name in ("long", "short"):
        d.arrive(turn(f"{name}1", name, 500, name=f"{name}2"))
        assert d.held(f"{name}1")
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    assert (d.went("short1"), d.held("long1")) == (True, True)


def test_what_another_process_knew_is_asked_for_before_it_is_needed() -> None:
    d = Driver()
    asked: list[str] = []
    d.desk.recall = asked.append
    d.arrive(chat("q", [("user", "x")], session="kid", headers={"x-parent-session-id": "main"}))
    d.desk.declare(Declaration(program="default", session="other"), 0.0)
    assert asked == ["default/kid", "default/main", "default/other"]


# Bodies, headers, sentences


def test_a_body_is_replaced_of_calls_that_go_at_once_and_only_by_enforce() -> None:
    bodies = []
    for mode in ("Enforce", "Observe"):
        d = full(config(mode))
        d.desk.adapt = lambda _, attributed: b"%d" % attributed.turn.prompt_tokens
        d.arrive(turn("small", "a", 20))
        d.arrive(turn("large", "b", 500))
        d.run_until(400.0)
        bodies.append([d.last[name].body for name in ("small", "large")])  # type: ignore[union-attr]
    assert bodies == [[b"20", None], [None, None]]


@pytest.mark.parametrize(
    ("names", "parent", "headers"),
    [
        ({"fairness": "x-fair"}, "main", {"x-fair": "default/main"}),
        ({"fairness": "x-fair"}, "", {}),
        ({}, "main", {}),
    ],
    ids=["a-child-counts-for-its-run", "the-edge-has-said-it", "no-such-header"],
)
def test_the_picker_hears_of_runs_what_the_edge_cannot_know(
    names: dict[str, str], parent: str, headers: dict[str, str]
) -> None:
    d = Driver(config(picker_headers=names))
    d.arrive(chat("q", [("user", "x")], session="kid", headers={"x-parent-session-id": parent}))
    told = d.last["q"]
    assert isinstance(told, Go)
    assert told.headers == headers == picker_headers(names, d.came("q"))


@pytest.mark.parametrize("reason", [*ev.Reason, "QueueFull", "ReplacedByRetry", "NotParsed", "Observing"])
def test_every_reason_has_a_sentence(reason: str) -> None:
    assert because(reason, replica="r0", uncached_tokens=1_000).endswith(".")
    assert "{" not in because(reason)


# What is shown


def test_what_is_shown_of_calls_and_replicas() -> None:
    d = full(config(policy=STRICT))
    d.now_s = 3.0
    d.arrive(turn("q", "a", 500))
    d.now_s = 4.0
    d.arrive(turn("q2", "c", 500))
    d.pods(pod("r0", running=1), pod("r1", draining=True))
    live = d.desk.live(d.now_s)
    assert (live.runs, live.sessions, live.in_flight, live.held) == (4, 4, 2, 2)
    first, second = live.replicas
    assert (first.held_tokens, first.needed_tokens, first.residents, first.running) == (800, 800, 1, 1)
    assert (second.draining, second.held_tokens, second.residents) == (True, 0, 0)
    shown = d.desk.held(d.now_s, 1)
    assert [(one.call_id, one.since_s, one.until_s, one.reason) for one in shown] == [
        ("q", 3.0, 303.0, "WaitsForRoom")
    ]
    assert live.held_bytes == sum(one.n_bytes for one in d.desk.held(d.now_s, 10)) > 4_000


def test_what_is_over_leaves_nothing_to_the_collector_of_cycles() -> None:
    """A process with many sessions cannot afford to run it."""

    def live(name: str) -> None:
        for i in range(20):
            headers = {"x-parent-session-id": f"{name}{i // 5 * 5}"} if i % 5 else {}
            call = turn(f"{name}{i}", f"{name}{i}" if i % 7 else "", 20, headers=headers)
            d.arrive(call)
            d.end(call.id, 20)
        d.run_until(d.now_s + 4_000.0)
        assert len(d.desk.sessions) == 0

    d = Driver()
    live("a")  # what is made once
    gc.collect()
    gc.disable()
    try:
        live("b")
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_many_that_wait_are_let_go_in_steps_that_follow_at_once() -> None:
    d = full()
    d.desk.check = lambda: None  # type: ignore[method-assign]  # it walks all of them for each
    for i in range(600):
        d.arrive(turn(f"q{i}", f"s{i}", 300))
    assert len(d.waits) == 600
    d.configure(mode="Observe")
    assert 0 < sum(d.went(f"q{i}") for i in range(600)) < 600
    d.run_until(d.now_s)
    assert all(d.went(f"q{i}") for i in range(600))
