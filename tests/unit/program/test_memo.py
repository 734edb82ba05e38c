"""program.memo: reading a prompt with what is known of the last one gives the same blocks as reading it whole, whatever clients do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.blocks import Memo, Template, blocks_of
from agentic_serving.program.memo import fingerprints
from agentic_serving.program.normalise import entries_of

_MARK = {"cache_control": {"type": "ephemeral"}}
_TEMPLATES = [
    Template(head=head, call_ids=ids, reasoning=reasoning)
    for head in ("tools-first", "system-first")
    for ids in (False, True)
    for reasoning in ("all", "last", "none")
]


def _entry(kind: str, text: str) -> dict[str, Any]:
    """A message; `m` is one that is marked for caching."""
    block = {"type": "text", "text": text}
    made: dict[str, dict[str, Any]] = {
        "s": {"role": "system", "content": text},
        "u": {"role": "user", "content": text},
        "m": {"role": "user", "content": [{**block, **_MARK}]},
        "a": {"role": "assistant", "content": text},
        "r": {"role": "assistant", "reasoning_content": text, "content": text},
        "c": {"role": "assistant", "content": [{"type": "tool_use", "id": text, "name": "f", "input": {}}]},
        "t": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": text, "content": text}]},
        "e": {"role": "user", "content": []},
    }
    return made[kind]


_ENTRIES = st.lists(st.builds(_entry, st.sampled_from("sumarcte"), st.sampled_from(["x", "y"])), max_size=12)
_BODIES = st.tuples(_ENTRIES, st.sampled_from(["", "S"]), st.booleans())


def _body(made: tuple[list[dict[str, Any]], str, bool]) -> dict[str, Any]:
    entries, system, tools = made
    body: dict[str, Any] = {"messages": entries, "system": system}
    return {**body, "tools": [{"name": "ls"}]} if tools else body


@given(
    st.lists(_BODIES, min_size=1, max_size=6),
    st.sampled_from(_TEMPLATES),
    st.lists(st.floats(0.1, 0.5), min_size=6, max_size=6),
)
def test_any_bodies_are_read_the_same(made: list[Any], template: Template, rates: list[float]) -> None:
    memo = Memo()
    for one, rate in zip(made, rates, strict=False):
        whole = blocks_of(_body(one), template=template, tokens_per_byte=rate)
        assert blocks_of(_body(one), template=template, tokens_per_byte=rate, memo=memo) == whole


@given(_ENTRIES, st.lists(st.tuples(st.integers(0, 3), _ENTRIES), max_size=6), st.sampled_from(_TEMPLATES))
def test_conversations_that_grow_and_step_back_are_read_the_same(
    first: list[Any], steps: list[tuple[int, list[Any]]], template: Template
) -> None:
    memo, entries = Memo(), first
    for back, more in steps:
        entries = entries[: len(entries) - back] + more
        body = _body((entries, "S", True))
        assert blocks_of(body, template=template, memo=memo) == blocks_of(body, template=template)


def test_what_was_read_before_is_not_read_again() -> None:
    """The cache mark of the last message moves on, as Claude Code's does: all before it is known."""
    memo = Memo()
    entries = [_entry("u", f"{i}") for i in range(9)]
    blocks_of({"messages": [*entries, _entry("m", "9")]}, memo=memo)
    after = {"messages": [*entries, _entry("u", "9"), _entry("a", "10"), _entry("m", "11")]}
    fingers = fingerprints(after, entries_of(after), Template())
    assert memo.known(fingers) == (9, 9)


@given(_ENTRIES, st.lists(st.sampled_from(_TEMPLATES), min_size=2, max_size=4))
def test_another_template_reads_it_anew(entries: list[Any], templates: list[Template]) -> None:
    memo, body = Memo(), _body((entries, "S", True))
    for template in templates:
        assert blocks_of(body, template=template, memo=memo) == blocks_of(body, template=template)


def test_a_prompt_that_is_too_long_is_not_kept() -> None:
    memo = Memo()
    blocks_of({"messages": [_entry("u", "x")] * 1100}, memo=memo)
    assert len(memo.prompt) == 0


@pytest.mark.parametrize("entry", [{"role": "user", "content": None}, "text", None, 7], ids=str)
def test_a_body_of_one_entry_is_read_the_same(entry: object) -> None:
    memo = Memo()
    for _ in range(2):
        assert blocks_of({"input": entry}, memo=memo) == blocks_of({"input": entry})
