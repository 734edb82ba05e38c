"""A fan-out of each client through a stack with its program scheduler: `explain run` tells it as what it was."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.asking import Asking
from tests.e2e.dataplane.site import Stack
from tests.e2e.world import wait_until

from .clients import CLIENTS, ClaudeCode, Client
from .conftest import Start

_FANOUT = "FANOUT-TASK: let two helpers write a file each, then read both."
Json = dict[str, Any]


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_a_fan_out_is_explained_as_one_run_of_a_parent_and_two_siblings(
    kind: type[Client], served: Callable[[str], Stack], start: Start
) -> None:
    stack = await asyncio.to_thread(served, "llm-d-0.10" if kind is ClaudeCode else "gie-1.5")
    asking = Asking(stack.site.cluster, stack.namespace, stack.name)
    before = await asyncio.to_thread(_runs, asking)
    outcome = await start(kind, stack.endpoint).run(_FANOUT)
    assert outcome.code == 0, outcome
    (name,) = await asyncio.to_thread(_runs, asking) - before
    assert name.startswith(f"{kind.name.lower()}/")
    run = await asyncio.to_thread(_settled, asking, name)
    told = f"{run}\n{asking.explained(run['id'])}"
    root, *children = run["sessions"]
    assert (root["id"], root["depth"], len(children)) == (run["id"], 0, 2), told
    assert {(child["parent"], child["depth"]) for child in children} == {(run["id"], 1)}, told
    for session in run["sessions"]:
        turns = [turn for turn in session["turns"] if turn["kind"] != "side"]
        assert [turn["kind"] for turn in turns] == ["human"] + ["tool"] * (len(turns) - 1), told
        assert len(turns) > 1, told
        for turn in session["turns"]:
            assert (turn["client"], turn["outcome"]) == (kind.name, "Answered"), told
            assert turn["decisions"], told
            assert all(decision["reason"] for decision in turn["decisions"]), told
            assert turn["decisions"][-1]["verdict"] == "Admit", told
            assert not turn["estimated"], told  # the access log's tokens have found their turn
    join = root["turns"][-1]
    assert join["cached_tokens"] > 0, told  # what the parent left outlived its helpers


def _runs(asking: Asking) -> set[str]:
    """The names of all runs that the scheduler has seen a turn of."""
    return {str(session["run"]) for session in asking.live()["sessions"]}


def _settled(asking: Asking, run: str) -> Json:
    """A run once nothing of it is under way any more."""
    found: Json = {}

    def ended() -> bool:
        found.update(asking.run(run))
        return all(turn["outcome"] for session in found["sessions"] for turn in session["turns"])

    wait_until(ended, what=f"the end of every turn of {run}", timeout_s=20)
    return found
