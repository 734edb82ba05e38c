"""From runs of blocks to messages: what repeats in the trace repeats byte by byte, and nothing else does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.capacity.runs import blocks, common_blocks
from agentic_serving.replay.bodies import Api, BodyOptions, body
from agentic_serving.replay.conversation import Conversation, SessionText
from agentic_serving.replay.layout import Part, layouts
from agentic_serving.replay.text import Scale
from agentic_serving.workload import GapKind, Program, Session, Turn, read
from agentic_serving.workload.lineage import with_bases

TRACES = Path(__file__).parents[2] / "traces"
SMALL = Scale(token_scale=0.05, tokens_per_word=1.3)


def turn(
    index: int, runs: tuple[tuple[int, int], ...], *, tail: int = 10, kind: GapKind = "tool", out: int = 20
) -> Turn:
    return Turn(
        index=index, runs=runs, block_size=64, prompt_tokens=64 * blocks(runs) + tail, output_tokens=out, gap_s=0.0,
        gap_kind=kind, stop="end", stream=True, start_s=0.0, api_s=None,
    )  # fmt: skip


def program(*turns: Turn) -> Program:
    session = Session(
        id="s", parent=None, agent="main", tool_tokens=64, system_tokens=64, turns=with_bases(turns)
    )
    return Program(id="p", source="claude-code", scope="p", start_s=0.0, open_loop=False, sessions=(session,))


@st.composite
def growing(draw: st.DrawFn) -> Program:
    """A session that only appends, by whatever steps."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(1, 63), st.integers(0, 900)), min_size=1, max_size=8
        )
    )
    turns: list[Turn] = []
    size = 3
    for index, (more, tail, out) in enumerate(steps):
        size += more
        turns.append(turn(index, ((1, size),), tail=tail, out=out, kind="tool" if index % 3 else "human"))
    return program(*turns)


@given(growing(), st.sampled_from([Scale(), SMALL, Scale(token_scale=0.02)]))
@settings(max_examples=60)
def test_the_next_turn_sends_the_same_messages_and_new_ones(found: Program, scale: Scale) -> None:
    session = found.sessions[0]
    text = SessionText(found, session, scale)
    for before, after in zip(session.turns, session.turns[1:], strict=False):
        if after.prompt_tokens <= before.prompt_tokens:
            continue
        one, two = text.turn(before.index), text.turn(after.index)
        assert (two.tools, two.system) == (one.tools, one.system)
        assert two.entries[: len(one.entries)] == one.entries
        assert len(two.entries) > len(one.entries)


def real_steps() -> Iterator[tuple[Conversation, Conversation]]:
    """Pairs of real prompts, the second of which extends the first."""
    for found in read(TRACES / "claude_code.jsonl"):
        for session in found.sessions:
            text = SessionText(found, session, SMALL)
            for after in session.turns:
                before = session.turns[after.base] if after.base is not None else after
                whole = common_blocks(before.runs, after.runs) == blocks(before.runs)
                if whole and after.prompt_tokens > before.prompt_tokens:
                    yield text.turn(before.index), text.turn(after.index)


@pytest.fixture(scope="module")
def steps() -> list[tuple[Conversation, Conversation]]:
    return list(real_steps())


@pytest.mark.parametrize("api", ["messages", "responses", "chat", "completions"])
def test_bodies_of_real_sessions_grow_by_appending_where_the_trace_does(
    api: Api, steps: list[tuple[Conversation, Conversation]]
) -> None:
    options = BodyOptions(model="m", max_tokens=5, session="x")
    assert len(steps) > 150
    for before, after in steps:
        one, two = _said(api, body(api, before, options)), _said(api, body(api, after, options))
        assert two[: len(one)] == one


def _said(api: Api, made: dict[str, Any]) -> str | list[object]:
    """The growing part of a body, without the cache marks, which move."""
    if api == "completions":
        return str(made["prompt"])
    if api == "responses":
        return [made["instructions"], made["tools"], *made["input"]]
    for message in made["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            block.pop("cache_control", None)
    return [made["tools"], *made["messages"]]


def test_siblings_share_tools_and_system_with_each_other_only() -> None:
    found = next(p for p in read(TRACES / "claude_code.jsonl") if p.id == "trace_0282")
    root, *children = (SessionText(found, s, SMALL).turn(0) for s in found.sessions)
    assert len({c.tools for c in children}) == 1
    assert root.tools != children[0].tools
    assert root.system != children[0].system


def test_a_tools_result_answers_the_call_before_it() -> None:
    found = program(turn(0, ((1, 4),), kind="human"), turn(1, ((1, 9),)), turn(2, ((1, 12),), kind="human"))
    first, call, result, answer, last = SessionText(found, found.sessions[0], Scale()).turn(2).entries
    assert [e.role for e in (first, call, result, answer, last)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert call.call is not None
    assert result.call_id == call.call.id
    assert answer.call is None


@pytest.mark.parametrize(
    ("second", "parts"),
    [
        (((1, 9),), [("user", 128, 330), ("assistant", 330, 350), ("tool", 350, 586)]),  # appended
        (
            ((1, 4), (50, 5)),
            [("user", 128, 330), ("assistant", 330, 350), ("tool", 350, 586)],
        ),  # a block rewritten
        (((1, 2), (50, 1)), [("user", 128, 202)]),  # compacted: what was said is now one message
        (((50, 9),), [("user", 128, 586)]),  # nothing shared: another conversation
    ],
    ids=["appended", "rewritten in place", "compacted", "new"],
)
def test_boundaries_follow_from_how_the_prompt_changed(
    second: tuple[tuple[int, int], ...], parts: list[tuple[Any, int, int]]
) -> None:
    session = program(turn(0, ((1, 5),), kind="human"), turn(1, second)).sessions[0]
    head = (Part("tools", 0, 64), Part("system", 64, 128))
    assert layouts(session)[1] == (*head, *(Part(*p) for p in parts))


def test_a_compaction_leaves_no_call_without_its_result() -> None:
    # Shared are 384 tokens: the first message and the call (330 to 350), but not the whole result.
    found = program(turn(0, ((1, 5),), kind="human"), turn(1, ((1, 9),)), turn(2, ((1, 6), (50, 1))))
    head = (Part("tools", 0, 64), Part("system", 64, 128), Part("user", 128, 330))
    assert layouts(found.sessions[0])[2] == (*head, Part("user", 330, 458))


def test_layouts_cover_every_real_prompt_without_gaps() -> None:
    for found in read(TRACES):
        for session in found.sessions:
            for one, parts in zip(session.turns, layouts(session), strict=True):
                assert [p.start for p in parts] == [0, *(p.stop for p in parts[:-1])]
                assert parts[-1].stop == one.prompt_tokens
                assert parts[-1].role in ("user", "tool")


def test_recorded_text_is_sent_as_it_is_and_shortened_evenly() -> None:
    found = read(TRACES / "otel" / "simple_chain.json")[0]
    whole = SessionText(found, found.sessions[0], Scale()).turn(1)
    assert [e.text for e in whole.entries] == [m.text for m in found.sessions[0].turns[1].messages]
    half = SessionText(found, found.sessions[0], Scale(token_scale=0.5)).turn(1)
    assert half.entries[0].text == "What is the"  # of "What is the capital of France?"
