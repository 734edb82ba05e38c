"""Claude Code, Codex and OpenCode do real work: straight on an engine, and through a stack's router."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.dataplane.site import Stack
from tests.e2e.world import wait_until

from .clients import CLIENTS, ClaudeCode, Client, Codex, OpenCode
from .conftest import Start

_LOOP = "LOOP-TASK: write a file, then tell me what is in it."
_FANOUT = "FANOUT-TASK: let two helpers write a file each, then read both."


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A client, a picker that knows its API, and how many requests its tasks take at least."""

    kind: type[Client]
    release: str
    loop: int
    fanout: int  # parent's and both helpers'


# The upstream picker answers 400 to the Messages API, so Claude Code needs llm-d's.
_ROUTED = (
    Routed(kind=ClaudeCode, release="llm-d-0.10", loop=3, fanout=7),
    Routed(kind=Codex, release="gie-1.5", loop=3, fanout=8),
    Routed(kind=OpenCode, release="gie-1.5", loop=4, fanout=8),  # it also asks for a title
)
direct = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
routed = pytest.mark.parametrize("case", _ROUTED, ids=lambda case: case.kind.name)


async def _loop(client: Client) -> None:
    """Write a file with the shell, read it back, answer with it."""
    outcome = await client.run(_LOOP)
    assert outcome.code == 0, outcome
    assert (client.work / "loop.txt").read_text() == "kept-by-the-shell\n", outcome
    assert "The file says kept-by-the-shell." in outcome.output, outcome


async def _fanout(client: Client) -> None:
    """Two sub-agents write a file each, the parent waits for both and reads what they wrote."""
    outcome = await client.run(_FANOUT)
    assert outcome.code == 0, outcome
    assert sorted(p.name for p in client.work.glob("*.txt")) == ["blue.txt", "red.txt"], outcome
    assert "red and blue are joined" in outcome.output, outcome


@direct
async def test_a_tool_loop_on_an_engine(kind: type[Client], engine: str, start: Start) -> None:
    await _loop(start(kind, engine))


@direct
async def test_a_fan_out_on_an_engine(kind: type[Client], engine: str, start: Start) -> None:
    await _fanout(start(kind, engine))


@routed
async def test_a_tool_loop_through_the_router(
    case: Routed, served: Callable[[str], Stack], start: Start
) -> None:
    """The program is recognised, the session is one queue, and its turns find their prefix where they left it."""
    stack = await asyncio.to_thread(served, case.release)
    before = len(_turns(stack, case))
    await _loop(start(case.kind, stack.endpoint))
    turns = await asyncio.to_thread(_logged, stack, case, before, case.loop)
    assert {turn["code"] for turn in turns} == {200}, turns
    assert len(_sessions(case, turns)) == 1, turns
    first, second, third = turns[-3:]  # a title, where one is asked for, comes before
    assert first["pod"] == second["pod"] == third["pod"], turns
    for earlier, later in ((first, second), (second, third)):
        assert int(later["cached_tokens"]) > 0.9 * int(earlier["prompt_tokens"]), turns


@routed
async def test_sub_agents_count_with_their_parent(
    case: Routed, served: Callable[[str], Stack], start: Start
) -> None:
    """Whatever a client calls its sub-agents' sessions, all requests of the run are one queue of its program."""
    stack = await asyncio.to_thread(served, case.release)
    before = len(_turns(stack, case))
    await _fanout(start(case.kind, stack.endpoint))
    turns = await asyncio.to_thread(_logged, stack, case, before, case.fanout)
    assert len(_sessions(case, turns)) == 1, turns
    assert int(turns[-1]["cached_tokens"]) > 0, turns  # the join: the parent's prefix outlived its helpers


def _turns(stack: Stack, case: Routed) -> list[dict[str, Any]]:
    """What the router has logged of a client's API, whatever program it took it for, in order of beginning."""
    found = [entry for entry in stack.access_log() if str(entry["path"]) == case.kind.api]
    return sorted(found, key=lambda entry: str(entry["time"]))


def _logged(stack: Stack, case: Routed, before: int, expected: int) -> list[dict[str, Any]]:
    """What came after the first `before` entries, once it is `expected` at least."""
    what = f"{expected} requests of {case.kind.name} in the access log"
    wait_until(lambda: len(_turns(stack, case)) >= before + expected, what=what, timeout_s=20)
    return _turns(stack, case)[before:]


def _sessions(case: Routed, turns: list[dict[str, Any]]) -> set[str]:
    """Identities in the queues' names; each request must be of the client's own program and have one."""
    program = case.kind.name.lower()
    assert {turn["program"] for turn in turns} == {program}, turns
    queues = [str(turn["queue"]) for turn in turns]
    assert all(queue.startswith(f"{program}/") for queue in queues), turns
    sessions = {queue.removeprefix(f"{program}/") for queue in queues}
    assert "" not in sessions, turns
    return sessions
