"""faults: which calls a plan picks. The proxy that carries it out is tested on a real API server."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.localcluster.calls import matching, parse_call
from tests.e2e.localcluster.faults import (
    Answer,
    Close,
    Drop,
    EventRule,
    Plan,
    Reset,
    Rule,
    event_of,
    status_body,
)

PODS = "/api/v1/namespaces/n/pods"
SERVICES = "/api/v1/namespaces/n/services"


@given(st.lists(st.sampled_from([PODS, SERVICES]), max_size=30), st.sets(st.integers(0, 15)))
def test_a_rule_picks_exactly_its_indexes_among_its_own_matches(paths: list[str], nth: set[int]) -> None:
    plan = Plan([Rule(match=matching(resource="pods"), nth=nth, action=Reset())])
    decided = [plan.decide(parse_call("POST", path)) for path in paths]
    pods = [action for action, path in zip(decided, paths, strict=True) if path == PODS]
    assert {i for i, action in enumerate(pods) if action is not None} == {i for i in nth if i < len(pods)}
    assert all(action is None for action, path in zip(decided, paths, strict=True) if path == SERVICES)


def test_the_first_rule_that_applies_decides_and_all_count() -> None:
    first, second = Answer(code=409), Answer(code=503)
    plan = Plan(
        [
            Rule(match=matching(resource="pods"), nth={1}, action=first),
            Rule(match=matching(writes_only=True), nth={1, 2}, action=second),
        ]
    )
    call = parse_call("POST", PODS)
    assert [plan.decide(call) for _ in range(4)] == [None, first, second, None]


def test_a_rule_without_indexes_applies_every_time() -> None:
    plan = Plan([Rule(match=matching(), action=Reset())])
    assert [plan.decide(parse_call("GET", PODS)) for _ in range(3)] == [Reset()] * 3


@pytest.mark.parametrize(
    ("change", "name", "matches"),
    [
        (None, None, True),
        ("ADDED", None, True),
        ("DELETED", None, False),
        (None, "p", True),
        (None, "q", False),
    ],
)
def test_events_are_picked_by_change_and_name(change: str | None, name: str | None, *, matches: bool) -> None:
    event = {"type": "ADDED", "object": {"metadata": {"name": "p"}}}
    plan = Plan(event_rules=[EventRule(match=event_of("pods", change=change, name=name), action=Drop())])
    decided = plan.decide_event(parse_call("GET", f"{PODS}?watch=1"), event)
    assert decided == (Drop() if matches else None)


def test_bookmarks_are_left_alone_unless_asked_for() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {}}}
    call = parse_call("GET", f"{PODS}?watch=1")
    any_event = Plan(event_rules=[EventRule(match=event_of("pods"), action=Close())])
    bookmarks = Plan(event_rules=[EventRule(match=event_of("pods", change="BOOKMARK"), action=Close())])
    assert any_event.decide_event(call, bookmark) is None
    assert bookmarks.decide_event(call, bookmark) == Close()


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (409, "", "Conflict"),
        (409, "AlreadyExists", "AlreadyExists"),
        (429, "", "TooManyRequests"),
        (418, "", "Unknown"),
    ],
)
def test_an_error_has_the_reason_clients_branch_on(code: int, reason: str, said: str) -> None:
    status = json.loads(status_body(code, reason))
    assert (status["kind"], status["code"], status["reason"]) == ("Status", code, said)
