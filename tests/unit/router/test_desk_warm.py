"""Warm-ups at the desk: for declared forks, with the call's own body, in Enforce, and told to its end whatever it is."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agentic_serving.router import words
from agentic_serving.router.words import Declaration, Go, Usage, WarmUp
from tests.unit.router.desking import Driver, chat, config, pod, text_of, turn

#: 400 tokens take 0.03 s; four children on two pods instead of one save twice that.
FORK = {"x-agent-fork": "4"}


class Asked:
    """Takes warm-ups, or refuses them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.all: list[WarmUp] = []

    def __call__(self, warm_up: WarmUp) -> bool:
        self.all.append(warm_up)
        return self.takes


def driver(asked: Asked | None, **fields: Any) -> Driver:
    d = Driver(config(**fields))
    d.desk.warm = asked
    return d


def told(d: Driver) -> list[tuple[str, str]]:
    return [(one.replica, one.outcome) for one in d.ear.of(words.WarmedUp)]


def over(d: Driver, asked: Asked, *, done: bool = True) -> None:
    usage = Usage(call_id=asked.all[-1].id, status=200 if done else 0, prompt_tokens=400 if done else None)
    d.take(d.desk.warmed(usage, d.now_s))


def test_a_pod_that_was_not_chosen_is_asked_for_one_token_of_the_same_prompt() -> None:
    asked = Asked()
    d = driver(asked)
    headers = {**FORK, "authorization": "Bearer k", "x-session-id": "p"}
    d.arrive(turn("q", "p", 400, headers=headers, max_tokens=800, stream_options={"include_usage": True}))
    (warm_up,) = asked.all
    (hint,) = d.last["q"].endpoints  # type: ignore[union-attr] # it went
    assert {hint, warm_up.endpoint} == {"10.0.0.1:8000", "10.0.0.2:8000"}
    assert warm_up.path == "/v1/chat/completions"
    assert warm_up.headers["authorization"] == "Bearer k"
    assert "x-session-id" not in warm_up.headers
    body = json.loads(warm_up.body)
    messages = [{"role": "user", "content": text_of(400, "p")}]
    assert body == {"model": "m", "messages": messages, "stream": False, "max_tokens": 1}


def test_the_call_itself_goes_with_its_body_as_it_came_and_its_decision_tells_of_the_other_pod() -> None:
    asked = Asked()
    d = driver(asked)
    d.arrive(turn("q", "p", 400, headers=FORK))
    assert isinstance(word := d.last["q"], Go)
    assert word.body is None
    (note,) = d.ear.of(words.Decided, "q")
    other = "r1" if note.replica == "r0" else "r0"
    assert note.because.endswith(f"{other} computes the same prompt for 4 sessions that are to come.")


def test_children_find_it_on_both_pods() -> None:
    asked = Asked()
    d = driver(asked)
    d.arrive(turn("q", "p", 400, headers=FORK))
    over(d, asked)
    d.end("q", 400)
    for i in range(4):
        said = [("user", text_of(400, "p")), ("assistant", "yes"), ("user", f"child {i}")]
        d.arrive(chat(f"c{i}", said, session=f"c{i}", headers={"x-parent-session-id": "p"}))
    notes = [one for i in range(4) for one in d.ear.of(words.Decided, f"c{i}")]
    assert {one.reason for one in notes} == {"PrefixIsThere"}
    assert {one.replica for one in notes} == {"r0", "r1"}
    assert told(d) == [(notes[0].replica, "Done")] or told(d) == [(notes[1].replica, "Done")]


@pytest.mark.parametrize("takes", [True, False], ids=["it fails", "nobody takes it"])
def test_one_that_comes_to_nothing_leaves_nothing(takes: bool) -> None:
    asked = Asked(takes=takes)
    d = driver(asked)
    d.arrive(turn("q", "p", 400, headers=FORK))
    if takes:
        over(d, asked, done=False)
        over(d, asked)  # told twice: the second is of nothing
    ((replica, outcome),) = told(d)
    assert outcome == ("Failed" if takes else "Refused")
    assert replica not in d.desk.scheduler.ledger.where("default/p")
    assert not d.desk._warming
    d.end("q", 400)
    d.arrive(turn("next", "n", 900))
    assert d.ear.of(words.Decided, "next")[0].replica == replica  # it is as empty as before


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"mode": "Observe"}, FORK),
        ({"disaggregated": True}, FORK),
        ({}, {}),
        ({}, {"x-agent-fork": "many"}),
        ({}, {**FORK, "content-encoding": "gzip"}),
    ],
    ids=["Observe", "prefill apart", "no fork", "not a number", "not read"],
)
def test_none_is_begun(fields: dict[str, Any], sent: dict[str, str]) -> None:
    asked = Asked()
    d = driver(asked, **fields)
    d.arrive(turn("q", "p", 400, headers=sent))
    assert d.went("q")
    assert not asked.all


def test_a_turn_that_is_held_has_none_when_it_goes() -> None:
    """Its body is in Envoy alone by then."""
    asked = Asked()
    d = driver(asked)
    for i in range(2):
        d.arrive(turn(f"b{i}", f"b{i}", 800))
        d.first_token(f"b{i}")
    d.arrive(turn("q", "p", 400, headers=FORK))
    assert d.held("q")
    d.pods(pod("r0"), pod("r1"), pod("r2"), pod("r3"))
    assert d.went("q")
    assert not asked.all


def test_what_the_hint_endpoint_was_told_counts_until_a_child_comes() -> None:
    asked = Asked()
    d = driver(asked)
    d.arrive(turn("q", "p", 300))
    d.end("q", 300)
    assert d.desk.declare(Declaration(program="default", session="p", fork=4), d.now_s)
    d.arrive(turn("r", "p", 500))
    assert len(asked.all) == 1
    over(d, asked)
    d.end("r", 500)
    child = [("user", text_of(500, "p")), ("user", "child")]
    d.arrive(chat("c", child, session="c", headers={"x-parent-session-id": "p"}))
    d.end("c", 510)
    d.arrive(turn("s", "p", 700))
    assert len(asked.all) == 1


def test_with_no_one_who_asks_nothing_is_begun() -> None:
    d = driver(None)
    d.arrive(turn("q", "p", 400, headers=FORK))
    assert d.went("q")
    assert not told(d)


def test_a_pod_whose_address_went_is_not_asked() -> None:
    asked = Asked()
    d = driver(asked)
    d.pods(pod("r0"), replace(pod("r1"), endpoint=""))
    d.arrive(turn("q", "p", 400, headers=FORK))
    assert not asked.all
