"""program.request: API and client of each client's real headers, bounds of identifiers, and no error whatever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.request import MAX_ID_CHARS, api_of, client_of, identifier


@pytest.mark.parametrize(
    ("method", "path", "api"),
    [
        ("POST", "/v1/messages?beta=true", "messages"),
        ("POST", "/v1/messages/count_tokens?beta=true", "count_tokens"),
        ("POST", "/v1/responses", "responses"),
        ("POST", "/v1/chat/completions/", "chat"),
        ("POST", "/v1/completions", "completions"),
        ("GET", "/v1/responses", "other"),
        ("POST", "/v1/messagesx", "other"),
    ],
)
def test_the_path_says_the_api(method: str, path: str, api: str) -> None:
    assert api_of(method, path) == api


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"x-claude-code-session-id": "0199-a"}, "ClaudeCode"),
        ({"session-id": "0199-a", "x-codex-turn-metadata": "{}"}, "Codex"),
        ({"session_id": "0199-a"}, "Codex"),
        ({"x-session-id": "ses_1", "x-session-affinity": "ses_1"}, "OpenCode"),
        ({"x-session-id": "1", "x-session-affinity": "1"}, "generic"),
        ({"x-dynamo-session-id": "1"}, "Dynamo"),
        ({}, "generic"),
    ],
)
def test_headers_say_the_client(headers: dict[str, str], client: str) -> None:
    assert client_of(headers) == client


@pytest.mark.parametrize("value", ["a", "ses_1", "x" * MAX_ID_CHARS])
def test_an_id_within_bounds_is_kept_whole(value: str) -> None:
    assert identifier(value) == value


@pytest.mark.parametrize("value", ["", "x" * (MAX_ID_CHARS + 1), "a b", "a\n", "\u00e9", None, 1, ["a"], {}])
def test_what_cannot_be_an_id_is_absent(value: object) -> None:
    assert identifier(value) is None


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_nothing_raises(method: str, path: str, headers: dict[str, str]) -> None:
    api_of(method, path)
    client_of(headers)
    identifier(path)
