"""api.matching: who comes first, who overlaps, who is left out; laws over any set of programs."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api.matching import Ordering, ProgramRoute, is_owned_header, order_programs
from agentic_serving.api.program import HeaderMatch


def exact(name: str, value: str) -> HeaderMatch:
    return HeaderMatch(name=name, value=value)


def regex(name: str, value: str) -> HeaderMatch:
    return HeaderMatch(name=name, type="RegularExpression", value=value)


def program(name: str, created: str = "2026-01-01T00:00:00Z", *headers: HeaderMatch) -> ProgramRoute:
    return ProgramRoute(namespace="ns", name=name, created=created, headers=headers)


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
A, B = exact("x-a", "1"), exact("x-b", "1")
CLIENT = ProgramRoute(namespace="ns", name="client", created=OLD, clients=("Codex",))


def names(ordering: Ordering) -> list[str]:
    return [found.name for found in ordering.programs]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (program("z", NEW, A, B), program("a", OLD, A)),
        (program("z", NEW, A), program("a", OLD, regex("x-a", "1"))),
        (program("z", NEW, A, B), program("a", OLD, A, regex("x-b", "1"))),
        (program("z", NEW, regex("x-a", "1")), CLIENT),
        (replace(program("z", NEW, A), clients=("Codex",)), program("a", OLD, A)),
        (program("z", OLD, A), program("a", NEW, A)),
        (program("a", OLD, A), program("z", OLD, A)),
    ],
    ids=["more-headers", "exact", "more-exact", "a-header-over-clients", "clients-next", "older", "name"],
)
def test_the_first_is_tried_before_the_second(first: ProgramRoute, second: ProgramRoute) -> None:
    assert names(order_programs([second, first])) == [first.name, second.name]


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        (program("a", OLD, A), program("b", NEW, A), True),
        (program("a", OLD, A), program("b", NEW, B), True),
        (program("a", OLD, A), program("b", NEW, exact("X-A", "2")), False),
        (program("a", OLD, A), program("b", NEW, exact("X-A", "1")), True),
        (program("a", OLD, A, B), program("b", NEW, A), False),
        (program("a", OLD, regex("x-a", "1")), program("b", NEW, regex("x-a", "2")), True),
        (
            program("a", OLD, A, regex("x-b", "1")),
            program("b", NEW, exact("x-a", "2"), regex("x-b", "1")),
            False,
        ),
        (CLIENT, replace(CLIENT, name="z", clients=("ClaudeCode",)), False),
        (CLIENT, replace(CLIENT, name="z", clients=("ClaudeCode", "Codex")), True),
    ],
    ids=[
        "same",
        "different-headers-can-both-be-sent",
        "different-values",
        "names-without-case",
        "one-is-more-specific",
        "expressions-may",
        "one-exact-value-differs",
        "different-clients",
        "a-client-in-common",
    ],
)
def test_an_overlap_is_what_only_age_decides(one: ProgramRoute, other: ProgramRoute, overlaps: bool) -> None:
    found = order_programs([other, one]).overlaps
    assert bool(found) == overlaps
    if found:
        assert (found[0].winner, found[0].loser) == (one.key, other.key)
        assert one.key in found[0].why


@pytest.mark.parametrize(
    ("bad", "path", "reason"),
    [
        (program("p", OLD, A, regex("x-b", "(")), "spec.match.headers[1].value", "RegularExpressionRefused"),
        (program("p", OLD, exact("X-LLM-D-Thing", "1")), "spec.match.headers[0].name", "HeaderReserved"),
        (program("p", OLD, exact("x-a", "caf\xe9")), "spec.match.headers[0].value", "HeaderValueRefused"),
        (program("p", OLD, A, regex("X-A", "1")), "spec.match.headers", "HeaderRepeated"),
        (program("default", OLD, A), "metadata.name", "NameReserved"),
        (replace(program("p", OLD, A), session_header="Authorization"), "spec.identity.headers.session", "HeaderSecret"),
        (replace(program("p", OLD, A), session_header="x%y"), "spec.identity.headers.session", "HeaderNameRefused"),
        (
            replace(program("p", OLD, A), parent_header="X-Gateway-Destination-Endpoint"),
            "spec.identity.headers.parent",
            "HeaderReserved",
        ),
    ],
    ids=["regex", "owned", "unprintable", "twice", "default", "secret", "percent", "owned-identity"],
)  # fmt: skip
def test_a_program_that_cannot_work_is_left_out_and_says_why(
    bad: ProgramRoute, path: str, reason: str
) -> None:
    good = program("good", OLD, B)
    ordering = order_programs([bad, good])
    assert names(ordering) == ["good"]
    assert [(f.path, f.reason, f.severity) for f in ordering.problems[bad.key]] == [(path, reason, "Error")]


def test_a_program_that_asks_for_nothing_matches_nothing() -> None:
    assert order_programs([program("empty")]) == Ordering(programs=(), overlaps=(), problems={})


@pytest.mark.parametrize(
    "name", ["x-gateway-destination-endpoint", "X-Prefiller-Host-Port", "x-envoy-retry-on"]
)
def test_owned_headers_are_known_in_any_case(name: str) -> None:
    assert is_owned_header(name)
    assert not is_owned_header("x-session-id")


any_program = st.builds(
    ProgramRoute,
    namespace=st.sampled_from(["n", "m"]),
    name=st.sampled_from(["a", "b", "c", "default"]),
    created=st.sampled_from(["", OLD, NEW]),
    clients=st.lists(st.sampled_from(["ClaudeCode", "Codex", "OpenCode"]), unique=True, max_size=3).map(
        tuple
    ),
    headers=st.lists(
        st.builds(
            HeaderMatch,
            name=st.sampled_from(["x-a", "X-A", "x-b", "x-llm-d-z"]),
            type=st.sampled_from(["Exact", "RegularExpression"]),
            value=st.text(min_size=1, max_size=6),
        ),
        max_size=3,
    ).map(tuple),
    session_header=st.none() | st.sampled_from(["X-Run", "cookie", "a b", "%"]),
)
any_programs = st.lists(any_program, max_size=8, unique_by=lambda found: found.key)


@given(any_programs, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_arrival(
    programs: list[ProgramRoute], rng: random.Random
) -> None:
    shuffled = list(programs)
    rng.shuffle(shuffled)
    assert order_programs(shuffled) == order_programs(programs)


@given(any_programs)
def test_each_program_is_ordered_or_named_with_its_problem_or_asks_for_nothing(
    programs: list[ProgramRoute],
) -> None:
    ordering = order_programs(programs)
    asking = {found.key for found in programs if found.clients or found.headers}
    ordered = {found.key for found in ordering.programs}
    assert ordered | set(ordering.problems) == asking
    assert not ordered & set(ordering.problems)
    assert all({overlap.winner, overlap.loser} <= ordered for overlap in ordering.overlaps)
