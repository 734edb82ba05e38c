"""Who sends: the headers of the three agent clients, as their released versions were seen to send them.

Claude Code 2.1.197, Codex 0.169.0 and OpenCode 1.18.33, each pointed at a recording server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

import orjson

from agentic_serving.replay.bodies import Api

__all__ = ["CLIENTS", "CLIENT_APIS", "Client", "Identity", "headers"]

Client = Literal["claude-code", "codex", "opencode"]

CLIENTS: tuple[Client, ...] = ("claude-code", "codex", "opencode")
CLIENT_APIS: Mapping[Client, Api] = {"claude-code": "messages", "codex": "responses", "opencode": "chat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A session as its client names it.

    Attributes:
        client: whose headers.
        run: the program's run: a replay that repeats a program makes a new one.
        session: the session's id in the trace.
        root: the program's root session.
        parent: the session that started it, if any.
    """

    client: Client
    run: str
    session: str
    root: str
    parent: str | None

    @property
    def id(self) -> str:
        """The session's id on the wire."""
        own = self.root if self.client == "claude-code" else self.session
        return self.name(own)

    def name(self, session: str) -> str:
        """Any session of this run as the client writes it."""
        number = uuid5(NAMESPACE_URL, f"{self.run}/{session}")
        return f"ses_{number.hex[:26]}" if self.client == "opencode" else str(number)


def headers(identity: Identity, *, turn: int, retry: int = 0, kind: str = "turn") -> dict[str, str]:
    """Headers of one request.

    Args:
        identity: whose request.
        turn: the turn's place in its session.
        retry: how often this very request was sent before.
        kind: `turn`, or what the client calls a side request.
    """
    return _MAKERS[identity.client](identity, turn, retry, kind)


def _claude_code(identity: Identity, _turn: int, retry: int, _kind: str) -> dict[str, str]:
    found = {
        "User-Agent": "claude-cli/2.1.197 (external, cli)",
        "X-Claude-Code-Session-Id": identity.id,
        "X-Stainless-Retry-Count": str(retry),
        "X-Stainless-Timeout": "600",
        "anthropic-version": "2023-06-01",
        "x-app": "cli",
    }
    if identity.parent is not None:
        found["x-claude-code-agent-id"] = uuid5(NAMESPACE_URL, f"{identity.run}/{identity.session}").hex[:17]
    return found


def _codex(identity: Identity, turn: int, _retry: int, kind: str) -> dict[str, str]:
    thread, root = identity.id, identity.name(identity.root)
    turn_id = identity.name(f"{identity.session}#{turn}")
    metadata = {
        "session_id": root,
        "thread_id": thread,
        "turn_id": turn_id,
        "root_turn_id": turn_id,
        "request_kind": kind,
        "thread_source": "user" if identity.parent is None else "subagent",
        "window_id": f"{thread}:0",
    }
    child = {}
    if identity.parent is not None:
        parent = identity.name(identity.parent)
        metadata |= {"parent_thread_id": parent, "subagent_kind": "thread_spawn"}
        child = {"x-codex-parent-thread-id": parent, "x-openai-subagent": "collab_spawn"}
    return {
        **child,
        "User-Agent": "codex_exec/0.169.0",
        "originator": "codex_exec",
        "session-id": root,
        "thread-id": thread,
        "x-codex-window-id": f"{thread}:0",
        "x-client-request-id": thread,
        "x-codex-turn-metadata": orjson.dumps(metadata).decode(),
    }


def _opencode(identity: Identity, _turn: int, _retry: int, _kind: str) -> dict[str, str]:
    found = {
        "User-Agent": "opencode/1.18.33",
        "x-session-id": identity.id,
        "x-session-affinity": identity.id,
    }
    if identity.parent is not None:
        found["x-parent-session-id"] = identity.name(identity.parent)
    return found


_MAKERS = {"claude-code": _claude_code, "codex": _codex, "opencode": _opencode}
