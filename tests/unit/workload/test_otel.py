"""OTel spans: who waits for whom is inferred from what is quoted."""

from pathlib import Path

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.workload import Program, TurnId, parse, read

OTEL = Path(__file__).parents[2] / "traces" / "otel"


def trace(name: str) -> Program:
    return read(OTEL / f"{name}.json")[0]


def test_a_chain_is_one_session() -> None:
    (session,) = trace("simple_chain").sessions
    assert [t.after for t in session.turns] == [(), (), ()]
    assert [t.gap_s for t in session.turns] == [0.0, 0.5, 1.0]
    assert [m.role for m in session.turns[1].messages] == ["user", "assistant", "user"]


def test_parallel_calls_fork_and_join() -> None:
    root, fork = trace("parallel_requests").sessions
    assert fork.parent == root.id
    assert fork.turns[0].after == (TurnId(root.id, 0),)
    assert root.turns[2].after == (TurnId(fork.id, 0),)


def test_a_coordinator_waits_for_the_agents_it_asked() -> None:
    found = trace("code_review_workflow")
    root, security, performance, quality, *_ = found.sessions
    assert [s.agent for s in (root, security)] == ["coordinator-agent", "security-agent"]
    assert root.turns[1].after == tuple(TurnId(s.id, 0) for s in (security, performance, quality))
    assert [t.gap_kind for t in root.turns] == ["human", "tool"] * 3
    assert security.turns[1].after == (TurnId(root.id, 2),)
    assert security.turns[1].gap_kind == "human", "asked again: a new task"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"2026-02-25T10:00:02.500000"', '"yesterday"'), r"simple: spans\[0\]: end_time: expected a time"),
        (
            ('"2026-02-25T10:00:02.500000"', '"2020-01-01T00:00:00"'),
            r"spans\[0\]: end_time: is before start_time",
        ),
        (('"[{\\"role', '"{\\"role'), r"spans\[0\]: attributes: gen_ai\.input\.messages: is not JSON"),
    ],
    ids=["no time", "backwards", "messages"],
)
def test_a_bad_span_is_refused_by_its_path(change: tuple[str, str], message: str) -> None:
    text = (OTEL / "simple_chain.json").read_text()
    assert change[0] in text
    with pytest.raises(InvalidInput, match=message):
        parse(text.replace(*change).encode(), name="simple")
