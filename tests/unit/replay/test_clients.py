"""replay.clients: what each client was seen to send; sub-agents and retries are told apart."""

import json

import pytest

from agentic_serving.replay.clients import Client, Identity, headers


def identity(client: Client, session: str = "root", *, parent: str | None = None, run: str = "r") -> Identity:
    return Identity(client=client, run=run, session=session, root="root", parent=parent)


CHILD = {"session": "root/a", "parent": "root"}


@pytest.mark.parametrize(
    ("client", "names"),
    [
        ("claude-code", {"X-Claude-Code-Session-Id", "X-Stainless-Retry-Count", "X-Stainless-Timeout"}),
        (
            "codex",
            {"session-id", "thread-id", "x-codex-turn-metadata", "x-codex-window-id", "x-client-request-id"},
        ),
        ("opencode", {"x-session-id", "x-session-affinity"}),
    ],
)
def test_each_client_sends_its_own_headers(client: Client, names: set[str]) -> None:
    assert names <= set(headers(identity(client), turn=0))


def test_claude_codes_sub_agents_keep_the_session_and_name_themselves() -> None:
    parent = headers(identity("claude-code"), turn=0)
    child = headers(identity("claude-code", **CHILD), turn=0)
    assert child["X-Claude-Code-Session-Id"] == parent["X-Claude-Code-Session-Id"]
    assert "x-claude-code-agent-id" in child
    assert "x-claude-code-agent-id" not in parent


def test_opencodes_sub_agents_have_a_session_of_their_own_and_name_the_parents() -> None:
    parent = headers(identity("opencode"), turn=0)
    child = headers(identity("opencode", **CHILD), turn=0)
    assert child["x-session-id"] != parent["x-session-id"]
    assert child["x-parent-session-id"] == parent["x-session-id"]
    assert parent["x-session-id"].startswith("ses_")


def test_codexs_sub_agents_keep_the_session_and_name_the_parents_thread() -> None:
    parent = headers(identity("codex"), turn=0)
    child = headers(identity("codex", **CHILD), turn=0)
    assert child["session-id"] == parent["session-id"]
    assert child["thread-id"] != parent["thread-id"]
    assert child["x-codex-parent-thread-id"] == parent["thread-id"]
    assert "x-openai-subagent" not in parent


def test_codex_tells_turns_of_a_thread_apart() -> None:
    one, two = (headers(identity("codex"), turn=n) for n in (0, 1))
    first, second = (json.loads(h["x-codex-turn-metadata"]) for h in (one, two))
    assert one["session-id"] == two["thread-id"] == first["thread_id"]
    assert first["turn_id"] != second["turn_id"]


def test_a_retry_says_so_and_a_new_run_is_another_session() -> None:
    assert headers(identity("claude-code"), turn=0, retry=2)["X-Stainless-Retry-Count"] == "2"
    assert identity("claude-code").id != identity("claude-code", run="r2").id
