"""What the released clients really send is attributed: a fan-out is one run of three sessions, and one task."""

from collections import Counter

import pytest

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.blocks import blocks_of
from agentic_serving.program.identity import identify
from agentic_serving.program.match import Matcher
from agentic_serving.program.request import Request
from agentic_serving.program.sessions import Arrival, Sessions

from .clients import CLIENTS, Client
from .conftest import Start
from .recorder import recorded

_FANOUT = "FANOUT-TASK: let two helpers write a file each, then read both."
_MATCHER = Matcher(
    [
        ProgramRoute(namespace="ns", name=name.lower(), clients=(name,))
        for name in ("ClaudeCode", "Codex", "OpenCode")
    ]
)


def _arrivals(requests: list[Request], sessions: Sessions) -> list[Arrival]:
    """Every request that asks the model, one after the other."""
    found = []
    for i, request in enumerate(requests):
        identity = identify(request, _MATCHER.match(request.headers, from_our_envoy=False))
        if identity.api != "other":
            arrival = sessions.arrive(identity, i, chain=blocks_of(request.body)[-1].chain)
            sessions.finish(arrival.session, i)
            found.append(arrival)
    sessions.check()
    return found


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_a_fan_out_is_one_run(kind: type[Client], engine: str, start: Start) -> None:
    requests: list[Request] = []
    async with recorded(engine, requests) as endpoint:
        outcome = await start(kind, endpoint).run(_FANOUT)
    assert outcome.code == 0, outcome
    sessions = Sessions()
    arrivals = _arrivals(requests, sessions)
    (run,) = {arrival.run for arrival in arrivals}
    state = sessions.run(run)
    assert state is not None
    assert (state.sessions, state.tasks) == (3, 1), arrivals
    assert run.startswith(f"{kind.name.lower()}/")
    assert all(arrival.confidence == 1 and not arrival.retry for arrival in arrivals), arrivals
    turns = [arrival for arrival in arrivals if arrival.kind != "side"]
    assert Counter(turn.session for turn in turns if turn.kind == "human") == dict.fromkeys(
        {turn.session for turn in turns}, 1
    ), arrivals  # the first turn of each session; all that follow come from tools or helpers
    assert {turn.parent for turn in turns if turn.session != run} == {run}
    assert [arrival.side for arrival in arrivals if arrival.kind == "side"] in ([], ["title"])
