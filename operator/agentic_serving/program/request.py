"""What a request is, before anybody knows whose: the API by its path, the client by its headers, identifiers within bounds.

Everything here comes from outside and is not trusted: nothing raises, and what is out of bounds is absent.
"""

from collections.abc import Mapping
from typing import Literal

__all__ = ["MAX_ID_CHARS", "Api", "ClientKind", "api_of", "client_of", "identifier"]

Api = Literal["chat", "completions", "responses", "messages", "count_tokens", "other"]
ClientKind = Literal["ClaudeCode", "Codex", "OpenCode", "Dynamo", "generic"]

#: The clients' own ids have 36 characters (uuid) or 30 (`ses_...`); the rest is room for identifiers of users.
MAX_ID_CHARS = 128

_APIS: Mapping[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}


def api_of(method: str, path: str) -> Api:
    """The API that is asked; a query (`?beta=true`) and a last slash do not count. Only POST asks a model."""
    return _APIS.get(path.partition("?")[0].rstrip("/"), "other") if method == "POST" else "other"


def client_of(headers: Mapping[str, str]) -> ClientKind:
    """Who sends, by what each client sends on its own, as the router's rules recognise it.

    Args:
        headers: by lower-case name.
    """
    if "x-claude-code-session-id" in headers:
        return "ClaudeCode"
    if "x-codex-turn-metadata" in headers or "session_id" in headers:
        return "Codex"
    if headers.get("x-session-affinity", "").startswith("ses_"):
        return "OpenCode"
    return "Dynamo" if "x-dynamo-session-id" in headers else "generic"


def identifier(value: object) -> str | None:
    """The value if it can be an id: text of 1 to MAX_ID_CHARS visible ASCII characters. It is never shortened."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS:
        return None
    return value if all("!" <= char <= "~" for char in value) else None
