"""program.identity: what each client's real requests say, each convention by hand, and no error whatever comes."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.identity import CERTAIN, SAID, Identity, identify
from agentic_serving.program.match import Matched
from agentic_serving.program.request import Request
from agentic_serving.replay import bodies, clients
from agentic_serving.replay.conversation import Call, Conversation, Entry, Tool

PLAIN = Matched(program="p", source="rules")
PATHS = {"messages": "/v1/messages?beta=true", "responses": "/v1/responses", "chat": "/v1/chat/completions"}
TOOLS = [{"name": "Bash"}]


def seen(
    headers: Mapping[str, str] | None = None,
    body: object = None,
    *,
    path: str = "/v1/messages",
    matched: Matched = PLAIN,
) -> Identity:
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    return identify(Request(method="POST", path=path, headers=lower, body=body), matched)


def names(found: Identity) -> tuple[str | None, str | None, str | None]:
    return found.run, found.session, found.parent


# --- As the released clients send it: bodies and headers of the replay.

ENTRIES = (
    Entry("user", "do it"),
    Entry("assistant", "I look", call=Call("c1", "tool0", "x")),
    Entry("tool", "found", call_id="c1"),
)


def conversation(n_entries: int) -> Conversation:
    return Conversation(
        tools=(Tool("tool0", "looks"),),
        system="You are an agent.",
        entries=ENTRIES[:n_entries],
        expected_tokens=10,
        output_tokens=10,
    )


def sent(
    client: clients.Client, session: str, parent: str | None, *, n_entries: int = 1, side: bool = False
) -> Identity:
    who = clients.Identity(client=client, run="r", session=session, root="root", parent=parent)
    api = clients.CLIENT_APIS[client]
    options = bodies.BodyOptions(model="m", max_tokens=100, session=who.id)
    told = conversation(n_entries)
    body = bodies.body(api, bodies.side_request(told) if side else told, options)
    return seen(clients.headers(who, turn=0), body, path=PATHS[api])


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_root_session_is_its_run(client: clients.Client) -> None:
    found = sent(client, "root", None)
    assert (
        found.session
        == found.run
        == f"p/{clients.Identity(client=client, run='r', session='root', root='root', parent=None).id}"
    )
    assert found.parent is None
    assert (found.kind, found.confidence, found.tools) == ("human", CERTAIN, 1)


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_sub_agent_is_a_session_of_its_own_whose_parent_is_the_root(client: clients.Client) -> None:
    root, child, other = sent(client, "root", None), sent(client, "a", "root"), sent(client, "b", "root")
    assert child.parent == root.session
    assert len({root.session, child.session, other.session}) == 3
    if client == "opencode":  # it does not say which run: its parents lead there
        assert child.run is None
    else:
        assert child.run == root.run


@pytest.mark.parametrize("client", clients.CLIENTS)
@pytest.mark.parametrize(("n_entries", "kind"), [(1, "human"), (3, "tool")])
def test_the_last_entry_is_the_kind(client: clients.Client, n_entries: int, kind: str) -> None:
    assert sent(client, "root", None, n_entries=n_entries).kind == kind


def test_opencodes_title_is_no_turn() -> None:
    found = sent("opencode", "root", None, side=True)
    assert (found.kind, found.side) == ("side", "title")
    assert found.session == sent("opencode", "root", None).session


def test_codex_says_which_group_and_task_claude_code_what_to_keep() -> None:
    codex = sent("codex", "root", None)
    group = codex.hint("prefix-group")
    assert group is not None
    assert f"p/{group.value}" == codex.session
    assert codex.hint("task") is not None
    assert [h.source for h in sent("claude-code", "root", None).hints if h.name == "cache-mark"] == [
        "messages[0].content[0]",
        "system[1]",
    ]


# --- Conventions, one by one.

CLAUDE = {"X-Claude-Code-Session-Id": "r"}
CODEX = {"session-id": "r", "thread-id": "t"}
TURN = "x-codex-turn-metadata"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (CLAUDE | {"x-claude-code-agent-id": "a"}, ("p/r", "p/r/a", "p/r")),
        (
            CLAUDE | {"x-claude-code-agent-id": "a", "x-claude-code-parent-agent-id": "b"},
            ("p/r", "p/r/a", "p/r/b"),
        ),
        (CLAUDE | {"x-claude-code-agent-id": " "}, ("p/r", "p/r", None)),
        (CLAUDE | {"x-claude-code-parent-agent-id": "b"}, ("p/r", "p/r", None)),
        (CODEX, ("p/r", "p/t", "p/r")),
        (CODEX | {"x-codex-parent-thread-id": "q"}, ("p/r", "p/t", "p/q")),
        (CODEX | {"x-codex-parent-thread-id": "t"}, ("p/r", "p/t", "p/r")),
        (
            {TURN: '{"session_id": "r", "thread_id": "t", "parent_thread_id": "q"}'},
            ("p/r", "p/t", "p/q"),
        ),
        ({"session_id": "r"}, ("p/r", "p/r", None)),
        ({"session_id": "t", "x-codex-parent-thread-id": "q"}, (None, "p/t", "p/q")),
        ({"x-session-id": "s", "x-parent-session-id": "q"}, (None, "p/s", "p/q")),
        ({"x-session-affinity": "s"}, ("p/s", "p/s", None)),
        ({"X-Session-ID": "s", "x-parent-session-id": "s"}, ("p/s", "p/s", None)),
        ({"X-Dynamo-Session-ID": "s", "X-Dynamo-Parent-Session-ID": "q"}, (None, "p/s", "p/q")),
        ({"X-Dynamo-Session-ID": "s", **CLAUDE}, ("p/s", "p/s", None)),
        (
            {"baggage": "user=1, gen_ai.conversation.id=a%2Db;ttl=1 ,gen_ai.agent.id=x"},
            ("p/a-b", "p/a-b", None),
        ),
        ({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, (None, None, None)),
        ({"x-llm-d-inference-fairness-id": "s", "x-session-token": "s"}, (None, None, None)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_headers_name_run_session_and_parent(
    headers: dict[str, str], expected: tuple[str | None, str | None, str | None]
) -> None:
    assert names(seen(headers)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"metadata": {"user_id": '{"session_id": "r"}'}}, ("p/r", "p/r", None)),
        ({"metadata": {"user_id": "user_1_account_2_session_r"}}, ("p/r", "p/r", None)),
        ({"metadata": {"user_id": "alice"}}, (None, None, None)),
        ({"client_metadata": {"session_id": "r", "thread_id": "t"}}, ("p/r", "p/t", "p/r")),
        ({"conversation": {"id": "c"}}, ("p/c", "p/c", None)),
        ({"conversation": "c"}, ("p/c", "p/c", None)),
        ({"session_id": "s"}, ("p/s", "p/s", None)),
        ({"metadata": {"session_id": "s"}}, ("p/s", "p/s", None)),
        ({"prompt_cache_key": "g", "user": "alice"}, (None, None, None)),
    ],
    ids=str,
)
def test_bodies_name_what_headers_do_not(
    body: dict[str, Any], expected: tuple[str | None, str | None, str | None]
) -> None:
    found = seen({}, body)
    assert names(found) == expected
    assert found.confidence < CERTAIN


def test_a_group_of_prompts_is_a_session_where_codex_asks() -> None:
    body = {"prompt_cache_key": "t"}
    assert names(seen({"originator": "codex_exec"}, body, path="/v1/responses")) == ("p/t", "p/t", None)
    assert names(seen({"originator": "other"}, body, path="/v1/responses")) == (None, None, None)


def test_a_claude_code_agent_without_its_header_is_somebody_in_the_run() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1.197; cc_is_subagent=true;"
    found = seen(CLAUDE, {"system": [{"type": "text", "text": line}], "messages": []})
    assert (names(found), found.confidence) == (("p/r", None, "p/r"), 0.0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-job": "j", **CLAUDE}, ("p/j", "p/j", None)),
        ({"x-job": "j", "x-up": "u"}, (None, "p/j", "p/u")),
        ({"x-up": "u"}, (None, None, "p/u")),
        (CLAUDE, ("p/r", "p/r", None)),
    ],
    ids=["before-the-clients", "with-parent", "parent-alone", "else-the-clients"],
)
def test_the_programs_own_headers_come_first(
    headers: dict[str, str], expected: tuple[str | None, str | None, str | None]
) -> None:
    route = ProgramRoute(namespace="ns", name="p", session_header="X-Job", parent_header="X-Up")
    assert names(seen(headers, matched=Matched(program="p", source="rules", route=route))) == expected


def test_no_id_reaches_into_anothers_name() -> None:
    agent = seen(CLAUDE | {"x-claude-code-agent-id": "a"})
    forged = seen({"x-session-id": "r/a"})
    made_up = seen({"x-session-id": "~1"})
    assert forged.session != agent.session
    assert (forged.session, made_up.session) == ("p/r%2Fa", "p/%7E1")


def test_one_id_in_two_programs_is_two_sessions() -> None:
    assert seen(CLAUDE).session != seen(CLAUDE, matched=Matched(program="q", source="stamp")).session


@pytest.mark.parametrize("value", ["x" * 129, "a b", "\u00e9", ""])
def test_what_cannot_be_an_id_names_nobody(value: str) -> None:
    assert seen({"x-claude-code-session-id": value}).session is None


def test_the_end_of_a_session_is_said_by_the_request() -> None:
    assert seen({"X-Dynamo-Session-ID": "s", "X-Dynamo-Session-Final": "True"}).final
    assert not seen({"X-Dynamo-Session-ID": "s", "X-Dynamo-Session-Final": "false"}).final


@pytest.mark.parametrize(
    ("count", "retry"), [("0", False), ("1", True), ("-1", False), ("x", False), ("9" * 40, False)]
)
def test_a_retry_is_counted_by_the_client(count: str, retry: bool) -> None:
    assert seen({"X-Stainless-Retry-Count": count}).retry is retry


# --- Kinds.

RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]}
ASKED = {"role": "user", "content": "do it"}
REMINDER = {"role": "system", "content": "remember"}
OUTPUT = {"type": "function_call_output", "call_id": "1", "output": "x"}
DONE = {"role": "user", "content": [{"type": "text", "text": "<task-notification>done</task-notification>"}]}
CHILD_DONE = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "<subagent_notification>{}</subagent_notification>"}],
}


@pytest.mark.parametrize(
    ("field", "entries", "kind"),
    [
        ("messages", [ASKED], "human"),
        ("messages", [ASKED, RESULT], "tool"),
        ("messages", [ASKED, RESULT, REMINDER], "tool"),
        ("messages", [ASKED, RESULT, ASKED], "human"),
        ("messages", [ASKED, RESULT, {"role": "assistant", "content": "So"}], "tool"),
        ("messages", [ASKED, DONE], "tool"),
        ("messages", [ASKED, {"role": "tool", "tool_call_id": "1", "content": "x"}], "tool"),
        ("messages", [ASKED, {"role": "function", "name": "f", "content": "x"}], "tool"),
        ("messages", [], "human"),
        ("input", [ASKED, OUTPUT], "tool"),
        ("input", [OUTPUT, {"type": "message", **ASKED}], "human"),
        ("input", [OUTPUT, CHILD_DONE], "tool"),
        ("input", [{"type": "custom_tool_call_output", "call_id": "1", "output": "x"}], "tool"),
        ("input", "do it", "human"),
        ("prompt", "do it", "human"),
    ],
    ids=str,
)
def test_what_came_last_is_the_kind(field: str, entries: object, kind: str) -> None:
    assert seen({}, {field: entries, "tools": TOOLS}).kind == kind


@pytest.mark.parametrize(
    ("headers", "body", "path", "side"),
    [
        (CLAUDE, {"messages": [ASKED], "tools": TOOLS}, "/v1/messages/count_tokens", "count-tokens"),
        ({}, None, "/v1/models", "other"),
        (CLAUDE, {"messages": [ASKED], "max_tokens": 1, "tools": TOOLS}, "/v1/messages", "warm-up"),
        ({}, {"messages": [ASKED], "max_completion_tokens": 1}, "/v1/chat/completions", "warm-up"),
        ({TURN: '{"request_kind": "prewarm"}'}, {"input": [ASKED]}, "/v1/responses", "warm-up"),
        ({}, {"input": [ASKED], "generate": False}, "/v1/responses", "warm-up"),
        ({TURN: '{"request_kind": "memory"}'}, {"input": [ASKED]}, "/v1/responses", "auxiliary"),
        (
            CLAUDE | {"x-claude-code-request-class": "auxiliary"},
            {"messages": [ASKED] * 9},
            "/v1/messages",
            "auxiliary",
        ),
        (
            {},
            {"messages": [{"role": "system", "content": "You write a title for the conversation."}, ASKED]},
            "/v1/chat/completions",
            "title",
        ),
        (CLAUDE, {"messages": [ASKED], "system": "Is this one word?"}, "/v1/messages", "auxiliary"),
    ],
    ids=[
        "count",
        "models",
        "one-token",
        "one-token-chat",
        "prewarm",
        "no-answer",
        "memory",
        "class",
        "title",
        "no-tools",
    ],
)
def test_side_requests_are_no_turns(headers: dict[str, str], body: object, path: str, side: str) -> None:
    found = seen(headers, body, path=path)
    assert (found.kind, found.side) == ("side", side)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {"messages": [{"role": "system", "content": "You sell books by title."}, ASKED]}),
        ({}, {"messages": [ASKED]}),
        (CLAUDE, {"messages": [{"role": "user", "content": "x" * 5000}]}),
        (CLAUDE, {"messages": [ASKED, {"role": "assistant", "content": "no"}, ASKED]}),
        ({TURN: '{"request_kind": "turn"}'}, {"input": [ASKED]}),
    ],
    ids=["titles-of-books", "chat", "long", "goes-on", "codex-without-tools"],
)
def test_short_questions_of_people_are_turns(headers: dict[str, str], body: object) -> None:
    assert seen(headers, body).kind == "human"


def test_a_compaction_is_a_turn_that_nobody_typed() -> None:
    said = '{"request_kind": "compaction"}'
    assert seen({TURN: said}, {"input": [ASKED], "tools": TOOLS}).kind == "tool"
    assert (
        seen(CLAUDE | {"x-claude-code-compaction": "auto"}, {"messages": [ASKED], "tools": TOOLS}).kind
        == "tool"
    )


# --- Hints.


@pytest.mark.parametrize(
    ("headers", "body", "name", "value"),
    [
        ({}, {"max_output_tokens": 7}, "max-tokens", 7),
        ({"x-stainless-timeout": "600"}, None, "client-timeout-s", 600),
        ({}, {"nvext": {"agent_hints": {"osl": 512}}}, "expected-output-tokens", 512),
        ({}, {"prompt_cache_key": "g"}, "prefix-group", "g"),
        ({}, {"prompt_cache_retention": "24h"}, "cache-ttl", "24h"),
        ({}, {"previous_response_id": "resp_1"}, "previous-response", "resp_1"),
        ({}, {"system": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, "cache-mark", "1h"),
        ({}, {"tools": [{"name": "a", "cache_control": {"type": "ephemeral"}}]}, "cache-mark", "5m"),
        ({"x-claude-code-prev-tool-durations": "Read=9;mcp%3Bx=742"}, None, "tool-duration-s/mcp;x", 0.742),
        ({"x-claude-code-context-compacted": "auto"}, None, "compacted", "auto"),
        ({TURN: '{"turn_id": "t1"}'}, None, "task", "t1"),
        ({"x-agent-tool-seconds": "12.5"}, None, "tool-s", 12.5),
        ({}, {"metadata": {"agent_remaining_seconds": "90"}}, "remaining-s", 90.0),
        ({"x-agent-tool-seconds": "1"}, {"metadata": {"agent_tool_seconds": "2"}}, "tool-s", 1.0),
        ({"x-agent-tool-seconds": "soon"}, {"metadata": {"agent_tool_seconds": 2}}, "tool-s", 2.0),
        ({"x-agent-fork": "16"}, None, "fork", 16),
        ({"x-agent-fork": "0"}, {"metadata": {"agent_fork": "8"}}, "fork", 8),
        ({}, {"nvext": {"agent_hints": {"priority": 5}}}, "priority", 5),
    ],
    ids=str,
)
def test_hints_are_found(headers: dict[str, str], body: object, name: str, value: object) -> None:
    found = seen(headers, body).hint(name)
    assert found is not None
    assert found.value == value
    assert found.confidence >= SAID


@pytest.mark.parametrize(
    "said",
    ["", "-1", "nan", "inf", "1e3", "604801", "1,5", "\u0661", "9" * 400, " 5", None, True, -1, 1e300, [5]],
    ids=repr,
)
def test_a_time_that_is_none_is_no_hint(said: object) -> None:
    headers = {"x-agent-remaining-seconds": said} if isinstance(said, str) else {}
    assert seen(headers, {"metadata": {"agent_remaining_seconds": said}}).hint("remaining-s") is None


def test_hints_are_bounded() -> None:
    marked = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 1000
    durations = ";".join(f"t{i}=1" for i in range(2000))
    body = {"messages": [{"role": "user", "content": marked}], "system": marked, "tools": marked}
    found = seen({"x-claude-code-prev-tool-durations": durations}, body)
    names = [hint.name for hint in found.hints]
    assert names.count("cache-mark") == 4  # as many as Anthropic allows
    assert len(names) == 4 + 16


# --- Whatever comes.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FIELDS = st.sampled_from(
    [
        "messages",
        "input",
        "system",
        "tools",
        "metadata",
        "client_metadata",
        "conversation",
        "session_id",
        "nvext",
        "prompt_cache_key",
        "max_tokens",
        "instructions",
        "generate",
    ]
)
ENTRY = st.dictionaries(
    st.sampled_from(
        ["role", "type", "content", "text", "cache_control", "name", "user_id", "agent_hints", "id"]
    ),
    JSON | st.sampled_from(["user", "assistant", "tool", "system", "text", "tool_result"]),
)
BODIES = JSON | st.dictionaries(FIELDS, JSON | ENTRY | st.lists(ENTRY))
HEADERS = st.dictionaries(
    st.text()
    | st.sampled_from(
        [
            "x-claude-code-session-id",
            "x-claude-code-agent-id",
            "session-id",
            "thread-id",
            "x-session-id",
            "x-parent-session-id",
            "baggage",
            "x-codex-turn-metadata",
            "x-dynamo-session-id",
            "x-stainless-retry-count",
            "x-claude-code-prev-tool-durations",
            "x-agent-tool-seconds",
        ]
    ),
    st.text() | BODIES.map(json.dumps),
)


@given(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from([*PATHS.values(), "/v1/completions", "", "/v1/messages/count_tokens"]),
    HEADERS,
    BODIES,
)
def test_nothing_raises_and_names_are_bounded(
    method: str, path: str, headers: dict[str, str], body: object
) -> None:
    found = identify(Request(method=method, path=path, headers=headers, body=body), PLAIN)
    for name in (found.run, found.session, found.parent):
        assert name is None or (name.startswith("p/") and name.isascii() and len(name) <= 2 + 2 * 3 * 128 + 1)
    assert len(found.hints) <= 32
    assert found.session is None or found.confidence > 0
