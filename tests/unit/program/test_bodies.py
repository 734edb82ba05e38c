"""What clients do to a conversation, as the bodies of three APIs, and what the graph says of it.

Bodies as recorded from Claude Code (Messages), Codex (Responses) and OpenCode (Chat Completions): the billing line of the first
system block, the caching mark that moves with the last user message, reasoning that is sent back, compaction to a summary.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from agentic_serving.program.blocks import Template, blocks_of
from agentic_serving.program.graph import Delta, SessionGraph

Step = tuple[str, str]  # what it is, and its text
_SYSTEM = "You are a coding agent. " * 40
_TOOLS = {"Read": "Reads a file. " * 30, "Bash": "Runs a command. " * 30}
_SUMMARY = "Summary: the parser is mended; the tests are not."

_ONE: list[Step] = [
    ("user", "mend the parser " * 6),
    ("think", "look at it " * 9),
    ("call", "a.py"),
    ("result", "def f(): ... " * 50),
]
_TWO: list[Step] = [
    *_ONE,
    ("think", "it is line 3 " * 9),
    ("say", "It is line 3."),
    ("call", "b.py"),
    ("result", "x = 1 " * 50),
]
_THREE: list[Step] = [*_TWO, ("say", "Mended."), ("user", "and the tests? " * 6)]
_UNTHOUGHT = [step for step in _TWO if step[0] != "think"]


def messages(steps: Sequence[Step], system: str = _SYSTEM) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    for i, (kind, text) in enumerate(steps):
        role = "user" if kind in ("user", "result") else "assistant"
        block = {
            "user": {"type": "text", "text": text},
            "say": {"type": "text", "text": text},
            "think": {"type": "thinking", "thinking": text, "signature": f"sig{i}"},
            "call": {"type": "tool_use", "id": f"toolu_{i}", "name": "Read", "input": {"path": text}},
            "result": {"type": "tool_result", "tool_use_id": f"toolu_{i - 1}", "content": text},
        }[kind]
        if made and made[-1]["role"] == role == "assistant":
            made[-1]["content"].append(block)
        else:
            made.append({"role": role, "content": [block]})
    made[-1]["content"][-1] = {**made[-1]["content"][-1], "cache_control": {"type": "ephemeral"}}
    billing = f"x-anthropic-billing-header: cc_version=2.1.197.{len(steps)}; cc_entrypoint=cli;"
    marked = {"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}
    tools = [{"name": n, "description": d, "input_schema": {"type": "object"}} for n, d in _TOOLS.items()]
    return {"system": [{"type": "text", "text": billing}, marked], "tools": tools, "messages": made}


def chat(steps: Sequence[Step], system: str = _SYSTEM) -> dict[str, Any]:
    made: list[dict[str, Any]] = [{"role": "system", "content": system}]
    for i, (kind, text) in enumerate(steps):
        if kind == "user":
            made.append({"role": "user", "content": text})
        elif kind == "result":
            made.append({"role": "tool", "tool_call_id": f"call_{i - 1}", "content": text})
        else:
            if made[-1]["role"] != "assistant":
                made.append({"role": "assistant", "content": None})
            function = {"name": "Read", "arguments": f'{{"path": "{text}"}}'}
            said: dict[str, dict[str, Any]] = {
                "say": {"content": text},
                "think": {"reasoning_content": text},
                "call": {"tool_calls": [{"id": f"call_{i}", "type": "function", "function": function}]},
            }
            made[-1] |= said[kind]
    tools = [
        {"type": "function", "function": {"name": n, "description": d, "parameters": {"type": "object"}}}
        for n, d in _TOOLS.items()
    ]
    return {"messages": made, "tools": tools}


def responses(steps: Sequence[Step], system: str = _SYSTEM) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    for i, (kind, text) in enumerate(steps):
        item: dict[str, dict[str, Any]] = {
            "user": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            },
            "say": {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text}],
            },
            "think": {
                "type": "reasoning",
                "id": f"rs_{i}",
                "summary": [{"type": "summary_text", "text": text}],
            },
            "call": {
                "type": "function_call",
                "call_id": f"c{i}",
                "name": "Read",
                "arguments": f'{{"path":"{text}"}}',
            },
            "result": {"type": "function_call_output", "call_id": f"c{i - 1}", "output": text},
        }
        made.append(item[kind])
    tools = [
        {"type": "function", "name": n, "description": d, "parameters": {"type": "object"}}
        for n, d in _TOOLS.items()
    ]
    return {"instructions": system, "input": made, "tools": tools, "store": False}


Make = Callable[..., dict[str, Any]]
read = partial(blocks_of, tokens_per_byte=1.0)  # then tokens are bytes, and add up exactly
every_api = pytest.mark.parametrize("make", [messages, chat, responses], ids=lambda f: f.__name__)


def _after(
    make: Make, before: Sequence[Step], now: Sequence[Step], system: str = _SYSTEM
) -> tuple[Delta, int]:
    """What the graph says of `now`, and how many of its tokens are those of the head."""
    graph = SessionGraph()
    graph.observe("a", read(make(before)), 0)
    blocks = read(make(now, system))
    graph.check()
    head = sum(b.tokens for b in blocks if b.kind in ("System", "ToolCatalog"))
    return graph.observe("a", blocks, 1), head


_CASES = {
    "retry": (_TWO, _TWO, "none"),
    "tool-returned": (_ONE, _TWO, "append"),
    "human-wrote": (_TWO, _THREE, "append"),
    "reasoning-dropped": (_TWO, [*_UNTHOUGHT, ("say", "Mended."), ("user", "next")], "dropped reasoning"),
    "compacted-to-a-summary": (_THREE, [("user", _SUMMARY)], "compaction"),
    "compacted-but-for-the-first": (_THREE, [_THREE[0], ("say", _SUMMARY), ("user", "go on")], "compaction"),
    "compacted-but-for-the-last": (_THREE, [("user", _SUMMARY), *_THREE[-2:]], "compaction"),
    "old-results-cleared": (
        _THREE,
        [("result", "[cleared]") if s == _ONE[3] else s for s in _THREE],
        "compaction",
    ),
    "stepped-back": (_THREE, [*_TWO[:6], ("user", "no, do it " * 9)], "abandoned branch"),
    "first-message-rewritten": (_ONE, [("user", "mend the lexer " * 7), *_TWO[1:]], "edit"),
}


@every_api
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_what_a_client_did(make: Make, case: tuple[list[Step], list[Step], str]) -> None:
    delta, _ = _after(make, *case[:2])
    assert delta.divergence == case[2]


@every_api
def test_another_system_prompt_is_an_edit_that_loses_all_but_the_tools(make: Make) -> None:
    delta, _ = _after(make, _TWO, _THREE, system="You are someone else. " * 40)
    tools = read(make(_TWO))[0]
    assert (delta.divergence, delta.reused) == ("edit", tools.tokens)


@every_api
def test_a_compaction_keeps_the_head_and_loses_the_rest(make: Make) -> None:
    delta, head = _after(make, _THREE, [("user", _SUMMARY)])
    assert (delta.reused, delta.new) == (head, len(_SUMMARY))
    assert delta.lost == sum(b.tokens for b in read(make(_THREE))) - head


@every_api
def test_dropped_reasoning_frees_its_own_tokens_and_moves_the_rest(make: Make) -> None:
    delta, head = _after(make, _TWO, [*_UNTHOUGHT, ("user", "next")])
    thought = sum(b.tokens for b in read(make(_TWO)) if b.kind == "Reasoning")
    asked = len(_ONE[0][1])
    assert (delta.reasoning, delta.reused) == (thought, head + asked)
    assert delta.lost > delta.reasoning


@every_api
def test_a_template_that_drops_old_reasoning_does_so_at_the_next_human_message(make: Make) -> None:
    graph, template = SessionGraph(), Template(reasoning="last")
    found = [graph.observe("a", read(make(steps), template=template), 0) for steps in (_ONE, _TWO, _THREE)]
    assert [(d.divergence, d.reasoning > 0) for d in found[1:]] == [
        ("append", False),
        ("dropped reasoning", True),
    ]


def test_encrypted_reasoning_is_in_no_prompt() -> None:
    body = responses(_TWO)
    plain = [b.chain for b in read({**body, "input": [i for i in body["input"] if i["type"] != "reasoning"]})]
    for item in body["input"]:
        if item["type"] == "reasoning":
            item |= {"summary": [], "encrypted_content": "gAAAA"}
    assert [b.chain for b in read(body)] == plain


def test_a_stored_response_goes_on_and_can_be_forked_from() -> None:
    """Two bodies name the same response: the second one shares the prompt, the answer and nothing else with the first."""
    graph = SessionGraph()
    first = read(responses(_TWO))
    graph.observe("a", first, 0)
    more = {"previous_response_id": "resp_1", "input": "and the tests?"}
    grown = graph.observe("a", read(more, after=first), 1)
    fork = graph.observe("b", read({**more, "input": "and the docs?"}, after=first), 2)
    assert (grown.divergence, grown.lost) == ("append", 0)
    assert (fork.divergence, fork.base) == ("fork", "a")
    assert fork.reused == sum(b.tokens for b in first) + len("resp_1")


@every_api
def test_a_fork_shares_up_to_where_it_branched(make: Make) -> None:
    graph = SessionGraph()
    graph.observe("a", read(make(_THREE)), 0)
    blocks = read(make([*_TWO, ("user", "think of something else")]))
    delta = graph.observe("b", blocks, 1)
    assert (delta.divergence, delta.base, delta.new) == ("fork", "a", blocks[-1].tokens)
