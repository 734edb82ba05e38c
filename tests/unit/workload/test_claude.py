"""Claude Code sessions: tasks, gaps, sub-agents that end when their `t` says, forks."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentic_serving.workload import Program, Task, TurnId, parse, read, tasks

TRACES = Path(__file__).parents[2] / "traces"


def call(
    t: float, blocks: list[list[int]], *, stop: str = "tool_use", types: str = "tool_result", **more: Any
) -> dict[str, Any]:
    tokens = 64 * sum(n for _, n in blocks) + 10
    return {
        "t": t, "type": "n", "in": tokens, "out": 20, "stop": stop, "input_types": [types],
        "api_time": 2.0, "think_time": 3.0, "hash_runs": blocks, **more,
    }  # fmt: skip


def program(*requests: dict[str, Any]) -> Program:
    session = {"id": "s", "block_size": 64, "tool_tokens": 64, "system_tokens": 0, "requests": requests}
    return parse(json.dumps(session).encode(), name="t.jsonl")[0]


def test_a_task_runs_from_a_human_to_the_answer_without_a_tool() -> None:
    turns = [
        call(0, [[1, 2]], types="text"),
        call(5, [[1, 3]], stop="end_turn"),
        call(50, [[1, 4]], types="text", stop=""),  # streamed: what follows was not recorded ...
        call(60, [[1, 5]], stop=""),  # ... but a tool's result came
        call(90, [[1, 6]], types="text", stop="tool_use"),  # a human interrupted the tool
    ]
    session = program(*turns).sessions[0]
    assert tasks(session) == (Task(0, 1), Task(2, 3), Task(4, 4))
    assert [t.stop for t in session.turns] == ["tool", "end", "tool", "end", "end"]
    assert [t.gap_kind for t in session.turns] == ["human", "tool", "human", "tool", "human"]
    assert [t.gap_s for t in session.turns] == [0, 3, 3, 3, 3]


def agent(
    name: str, t: float, duration_ms: int | None, *requests: dict[str, Any], status: str = "completed"
) -> dict[str, Any]:
    return {
        "t": t, "type": "subagent", "agent_id": name, "subagent_type": "Explore", "duration_ms": duration_ms,
        "status": status, "tool_tokens": 64, "system_tokens": 0, "requests": requests,
    }  # fmt: skip


def test_a_fan_out_starts_together_and_the_parent_waits_for_the_last() -> None:
    found = program(
        call(0, [[1, 2]], types="text"),
        agent("a", 22.5, 20_000, call(0, [[50, 1]], types="text"), call(6, [[50, 2]], stop="end_turn")),
        agent("b", 32.5, 30_000, call(0, [[50, 1]], types="text", stop="end_turn")),
        call(40, [[1, 4]]),
    )
    parent, a, b = found.sessions
    assert [s.id for s in found.sessions] == ["s", "s/a", "s/b"]
    assert a.turns[0].start_s == b.turns[0].start_s == 2.5, "t is the end: 22.5 - 20 and 32.5 - 30"
    assert a.turns[0].after == b.turns[0].after == (TurnId("s", 0),)
    assert parent.turns[1].after == (TurnId("s/a", 1), TurnId("s/b", 0))
    assert parent.turns[1].gap_s == pytest.approx(40 - (2.5 + 6 + 2)), "counts from the end of the last child"
    assert parent.turns[1].gap_kind == "tool"
    assert tasks(a) == (Task(0, 1),)


def test_nobody_waits_for_an_agent_in_the_background() -> None:
    found = program(
        call(0, [[1, 2]], types="text"),
        agent("a", 2.5, None, call(0, [[50, 1]], types="text"), status="async_launched"),
        call(10, [[1, 4]]),
    )
    assert found.sessions[1].turns[0].start_s == 2.5
    assert found.sessions[0].turns[1].after == ()


def test_agents_nest() -> None:
    inner = agent("b", 4.0, 1000, call(0, [[90, 1]], stop="end_turn"))
    found = program(
        call(0, [[1, 2]]),
        agent("a", 22.5, 20_000, call(0, [[50, 1]]), inner, call(9, [[50, 2]])),
        call(40, [[1, 4]]),
    )
    assert [(s.id, s.parent) for s in found.sessions] == [("s", None), ("s/a", "s"), ("s/a/b", "s/a")]
    assert found.sessions[1].turns[1].after == (TurnId("s/a/b", 0),)


def test_a_prompt_extends_the_one_it_shares_most_with() -> None:
    turns = [
        call(0, [[1, 9]]),
        call(5, [[1, 1], [70, 2]]),
        call(9, [[1, 12]]),
        call(12, [[200, 3]]),
        call(15, [[1, 13]]),
    ]
    assert [t.base for t in program(*turns).sessions[0].turns] == [None, 0, 0, None, 2]


def test_siblings_share_a_prefix_with_each_other_and_not_with_their_parent() -> None:
    found = next(p for p in read(TRACES / "claude_code.jsonl") if p.id == "trace_0277")
    root, *children = found.sessions
    firsts = {child.turns[0].runs[0][0] for child in children}
    assert len(children) == 4
    assert len(firsts) == 1
    assert root.turns[0].runs[0][0] not in firsts
