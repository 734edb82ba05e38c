"""What a request is, before anybody knows whose: the API by its path, the client by its headers, identifiers within bounds.

Everything here comes from outside and is not trusted: nothing raises, and what is out of bounds is absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentic_serving.api.matching import CLIENTS, holds

__all__ = ["MAX_ID_CHARS", "Api", "ClientKind", "Request", "api_of", "client_of", "identifier"]

Api = Literal["chat", "completions", "responses", "messages", "count_tokens", "other"]
ClientKind = Literal["ClaudeCode", "Codex", "OpenCode", "Dynamo", "generic"]

#: The clients' own ids have 36 characters (uuid) or 30 (`ses_...`); the rest is room for identifiers of users.
MAX_ID_CHARS = 128
_IDENTIFIER = re.compile(f"[!-~]{{1,{MAX_ID_CHARS}}}")

_APIS: Mapping[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it came.

    Attributes:
        path: with its query.
        headers: by lower-case name.
        body: the parsed JSON, whatever it is; None where it is not JSON.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: object = None


def api_of(method: str, path: str) -> Api:
    """The API that is asked; a query (`?beta=true`) and a last slash do not count. Only POST asks a model."""
    return _APIS.get(path.partition("?")[0].rstrip("/"), "other") if method == "POST" else "other"


def client_of(headers: Mapping[str, str]) -> ClientKind:
    """Who sends, by what each client sends on its own, as the router's rules recognise it; the first that fits.

    Args:
        headers: by lower-case name.
    """
    for client, signs in CLIENTS.items():
        if any(holds(sign, headers) for sign in signs):
            return client
    return "Dynamo" if "x-dynamo-session-id" in headers else "generic"


def identifier(value: object) -> str | None:
    """The value if it can be an id: text of 1 to MAX_ID_CHARS visible ASCII characters. It is never shortened."""
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else None
