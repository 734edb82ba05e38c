"""program.match: what Envoy says is believed from Envoy only; else the rules in Envoy's order, without expressions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute, is_owned_header
from agentic_serving.api.program import AgentProgram, Client, HeaderMatch
from agentic_serving.program.match import Matched, Matcher

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
CLAUDE = {"x-claude-code-session-id": "1"}


def route(
    name: str, *headers: HeaderMatch, created: str = OLD, clients: tuple[Client, ...] = ()
) -> ProgramRoute:
    return ProgramRoute(namespace="ns", name=name, created=created, headers=headers, clients=clients)


def team(value: str) -> HeaderMatch:
    return HeaderMatch(name="X-Team", value=value)


EXPRESSION = HeaderMatch(name="x-task", type="RegularExpression", value="(a+)+b")
MATCHER = Matcher(
    [
        route("claude", clients=("ClaudeCode",)),
        route("red", team("red"), created=NEW),
        route("red-claude", team("red"), created=NEW, clients=("ClaudeCode",)),
        route("red-older", team("red")),
        route("open", clients=("OpenCode", "Codex")),
    ]
)


def programs(headers: dict[str, str], *, matcher: Matcher = MATCHER, ours: bool = True) -> str:
    return matcher.match(headers, from_our_envoy=ours).program


@pytest.mark.parametrize(
    ("headers", "program"),
    [
        (CLAUDE, "claude"),
        ({"x-team": "red"}, "red-older"),
        ({"x-team": "red", **CLAUDE}, "red-claude"),
        ({"x-team": "Red"}, "default"),
        ({"session_id": "1"}, "open"),
        ({"x-session-affinity": "ses_1"}, "open"),
        ({"x-session-affinity": "1"}, "default"),
        ({}, "default"),
    ],
    ids=[
        "client",
        "older",
        "more-specific",
        "values-have-case",
        "either-client",
        "prefix",
        "no-prefix",
        "rest",
    ],
)
def test_the_most_specific_then_the_oldest_wins(headers: dict[str, str], program: str) -> None:
    found = MATCHER.match(headers, from_our_envoy=True)
    assert (found.program, found.source, found.certain) == (program, "rules", True)
    assert (found.route.name if found.route else "default") == program


def test_what_envoy_says_is_believed() -> None:
    found = MATCHER.match({PROGRAM_HEADER: "claude", "x-team": "red"}, from_our_envoy=True)
    assert (found.program, found.source) == ("claude", "stamp")
    assert found.route is not None


def test_a_program_that_only_envoy_knows_yet_is_believed() -> None:
    assert MATCHER.match({PROGRAM_HEADER: "brand-new"}, from_our_envoy=True) == Matched(
        program="brand-new", source="stamp"
    )


def test_nobody_else_may_name_the_program() -> None:
    assert programs({PROGRAM_HEADER: "claude"}, ours=False) == "default"
    assert is_owned_header(PROGRAM_HEADER)  # so no client's own gets through the edge


@pytest.mark.parametrize("name", ["", "a b", "x" * 64, "\u00e9"])
def test_a_name_that_no_program_can_have_is_no_name(name: str) -> None:
    assert programs({PROGRAM_HEADER: name, **CLAUDE}) == "claude"


@pytest.mark.parametrize(
    ("headers", "program", "certain"),
    [
        ({"x-task": "a" * 40, **CLAUDE}, "claude", False),
        ({"x-task": "a" * 40}, "default", False),
        (CLAUDE, "claude", True),
        ({"x-task": "ab", "x-team": "red", "x-more": "1"}, "two", True),
    ],
    ids=["then-a-client", "then-nobody", "header-absent", "found-before-it"],
)
def test_expressions_are_not_tried_here(headers: dict[str, str], program: str, certain: bool) -> None:
    """`(a+)+b` on 40 times `a` keeps Python's engine busy for hours."""
    two = route("two", team("red"), HeaderMatch(name="x-more", value="1"))
    matcher = Matcher([route("tasks", EXPRESSION), two, route("claude", clients=("ClaudeCode",))])
    found = matcher.match(headers, from_our_envoy=False)
    assert (found.program, found.certain) == (program, certain)


def test_overlaps_and_refusals_are_those_of_the_router() -> None:
    matcher = Matcher(
        [route("a", team("red")), route("b", team("red"), created=NEW), route("default", team("x"))]
    )
    assert [(o.winner, o.loser) for o in matcher.ordering.overlaps] == [("ns/a", "ns/b")]
    assert set(matcher.ordering.problems) == {"ns/default"}


def test_programs_come_as_objects() -> None:
    spec = {"agents": [{"name": "main", "stackRef": {"name": "chat"}}], "match": {"clients": ["ClaudeCode"]}}
    made = AgentProgram.model_validate({"metadata": {"name": "coding", "namespace": "ns"}, "spec": spec})
    assert programs(CLAUDE, matcher=Matcher.of([made])) == "coding"


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_nothing_raises(headers: dict[str, str], ours: bool) -> None:
    MATCHER.match(headers, from_our_envoy=ours)
