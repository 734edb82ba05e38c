"""match, identify, Sessions and the session graph together, on the requests that the replay sends as the clients do."""

from itertools import permutations

import pytest

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.blocks import blocks_of
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.identity import identify
from agentic_serving.program.match import Matcher
from agentic_serving.program.request import Request
from agentic_serving.program.sessions import Arrival, Sessions
from agentic_serving.replay import bodies, clients
from agentic_serving.replay.conversation import Conversation, Entry, Tool

MATCHER = Matcher(
    [
        ProgramRoute(namespace="ns", name="claude-code", clients=("ClaudeCode",)),
        ProgramRoute(namespace="ns", name="codex", clients=("Codex",)),
        ProgramRoute(namespace="ns", name="opencode", clients=("OpenCode",)),
    ]
)


def conversation(*texts: str) -> Conversation:
    """A human's and the agent's messages in turn."""
    roles = ("user", "assistant")
    entries = tuple(Entry(roles[i % 2], text) for i, text in enumerate(texts))
    tools = (Tool("tool0", "looks"),)
    return Conversation(
        tools=tools, system="You help.", entries=entries, expected_tokens=10, output_tokens=10
    )


def request(client: clients.Client, session: str, parent: str | None) -> Request:
    who = clients.Identity(client=client, run="r", session=session, root="root", parent=parent)
    api = clients.CLIENT_APIS[client]
    body = bodies.body(
        api, conversation("do it"), bodies.BodyOptions(model="m", max_tokens=9, session=who.id)
    )
    headers = {name.lower(): value for name, value in clients.headers(who, turn=0).items()}
    return Request(method="POST", path=bodies.API_PATHS[api], headers=headers, body=body)


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_run_is_one_run_whichever_client_sends_it(client: clients.Client) -> None:
    """A parent and two helpers, in each order of arrival: one run, whose name is the root's session."""
    family = [("root", None), ("red", "root"), ("blue", "root")]
    root = clients.Identity(client=client, run="r", session="root", root="root", parent=None)
    for order in permutations(family):
        sessions = Sessions()
        for session, parent in order:
            sent = request(client, session, parent)
            sessions.arrive(identify(sent, MATCHER.match(sent.headers, from_our_envoy=False)), 0)
        sessions.check()
        state = sessions.run(f"{client}/{root.id}")
        assert state is not None
        assert (state.run, state.sessions, len(sessions)) == (f"{client}/{root.id}", 3, 3)


def plain(sessions: Sessions, graph: SessionGraph, told: Conversation, now_s: float) -> Arrival:
    """A Chat Completions turn of a harness that names nothing, from arrival to end."""
    body = bodies.body("chat", told, bodies.BodyOptions(model="m", max_tokens=9))
    sent = Request(method="POST", path="/v1/chat/completions", headers={}, body=body)
    blocks = blocks_of(body)
    identity = identify(sent, MATCHER.match({}, from_our_envoy=False))
    arrival = sessions.arrive(identity, now_s, chain=blocks[-1].chain, likely=graph.infer(blocks))
    graph.observe(arrival.session, blocks, now_s)
    sessions.finish(arrival.session, now_s)
    return arrival


def test_conversations_that_nobody_names_are_told_apart_by_their_prompts() -> None:
    sessions, graph = Sessions(), SessionGraph()
    first = [plain(sessions, graph, conversation(*texts), 0) for texts in (("a",), ("b",))]
    second = [
        plain(sessions, graph, conversation(*texts), 1) for texts in (("b", "B", "more"), ("a", "A", "more"))
    ]
    third = plain(sessions, graph, conversation("a", "A", "more", "More", "still"), 2)
    assert [one.session for one in second] == [first[1].session, first[0].session]
    assert (third.session, third.turn) == (first[0].session, 2)
    assert first[0].run != first[1].run
    assert all(one.confidence >= 0.5 for one in (*second, third))


def test_a_shared_system_prompt_makes_no_session() -> None:
    sessions, graph = Sessions(), SessionGraph()
    assert len({plain(sessions, graph, conversation(text), 0).run for text in "abcdef"}) == 6
