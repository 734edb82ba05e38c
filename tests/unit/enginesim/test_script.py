"""enginesim's scripted answers: real agent clients run a tool loop by them."""

from pathlib import Path
from typing import Any

import pytest

from agentic_serving.enginesim.script import load_script
from agentic_serving.errors import InvalidInput
from tests.unit.enginesim.sim import CHAT_TOOL, MESSAGES_TOOL, MODEL, chat, knobs, running

RULES = """
rules:
  - when: {turn: 1, matches: "read (?P<file>\\\\S+)"}
    reasoning: "I look."
    answer: "Reading ${file}."
    calls: [{name: read, arguments: {path: "${file}", cost: $5}}]
  - when: {from: tool, last: "print"}
    answer: "It prints."
  - when: {anywhere: "be brief", without: "secret"}
    answer: "Yes."
  - when: {tool: read}
    answer: "I could read."
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return file


async def test_a_tool_loop_over_two_turns(script: Path) -> None:
    async with running(knobs=knobs(script=script)) as sim:
        body = chat("please read a.py", tools=[CHAT_TOOL], max_tokens=200)
        first = (await sim.ok("/v1/chat/completions", body))["choices"][0]
        call = first["message"]["tool_calls"][0]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "print(1)"}
        history = [*body["messages"], first["message"], result]
        second = (await sim.ok("/v1/chat/completions", {**body, "messages": history}))["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    assert first["message"]["content"].endswith("Reading a.py.")
    assert call["function"] == {"name": "read", "arguments": '{"path": "a.py", "cost": "$5"}'}
    assert (second["finish_reason"], second["message"]["content"]) == ("stop", "It prints.")


async def test_the_same_loop_over_messages(script: Path) -> None:
    async with running("--reasoning-parser=qwen3", knobs=knobs(script=script)) as sim:
        body = chat("please read a.py", tools=[MESSAGES_TOOL], max_tokens=200)
        answer = await sim.ok("/v1/messages", body)
        events = await sim.events("/v1/messages", body)
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "tool_use"]
    assert answer["stop_reason"] == "tool_use"
    started = [e.json()["content_block"]["type"] for e in events if e.name == "content_block_start"]
    assert started == ["thinking", "text", "tool_use"]


async def test_custom_tools_get_free_text(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('{"rules": [{"calls": [{"name": "patch", "arguments": {"input": "*** Begin"}}]}]}')
    body = {"model": MODEL, "input": "x", "tools": [{"type": "custom", "name": "patch"}]}
    async with running(knobs=knobs(script=file)) as sim:
        item = (await sim.ok("/v1/responses", body))["output"][0]
        events = await sim.events("/v1/responses", body)
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", "*** Begin")
    done = next(e.json() for e in events if e.name == "response.custom_tool_call_input.done")
    assert done["input"] == "*** Begin"


async def test_a_namespaced_tool_is_called_by_its_own_name(tmp_path: Path) -> None:
    """vLLM 0.32 and later show the model `<namespace>__<name>` and take it apart again; Codex refuses anything else."""
    file = tmp_path / "rules.json"
    file.write_text('{"rules": [{"calls": [{"name": "agents__spawn", "arguments": {"message": "go"}}]}]}')
    tool = {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn"}]}
    body = {"model": MODEL, "input": "x", "tools": [tool]}
    async with running(knobs=knobs(script=file)) as sim:
        whole = (await sim.ok("/v1/responses", body))["output"][0]
        events = await sim.events("/v1/responses", body)
    streamed = next(e.json()["item"] for e in events if e.name == "response.output_item.done")
    assert [(i["namespace"], i["name"]) for i in (whole, streamed)] == [("agents", "spawn")] * 2


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (chat("be brief", max_tokens=50), "Yes."),
        (chat("be brief about the secret", max_tokens=50, tools=[CHAT_TOOL]), "I could read."),
    ],
    ids=["anywhere", "without"],
)
async def test_conditions(script: Path, body: dict[str, Any], answer: str) -> None:
    async with running(knobs=knobs(script=script)) as sim:
        choice = (await sim.ok("/v1/chat/completions", body))["choices"][0]
    assert choice["message"]["content"] == answer


async def test_a_rule_that_calls_a_tool_nobody_offered_is_passed_over(script: Path) -> None:
    async with running(knobs=knobs(script=script)) as sim:
        choice = (await sim.ok("/v1/chat/completions", chat("read a.py")))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert "Reading" not in choice["message"]["content"]


@pytest.mark.parametrize("text", ["rules: [{anwser: x}]", "rules: [{when: {matches: '('}}]", "- x"], ids=str)
def test_a_wrong_script_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match="ENGINESIM_SCRIPT"):
        load_script(file)
