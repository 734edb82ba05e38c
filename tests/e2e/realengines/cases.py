"""Requests that real vLLM and the simulator must answer alike: the four APIs, helpers, and mistakes of clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.realengines.processes import SERVED

__all__ = ["ANSWERED", "NOT_SIMULATED", "REFUSED", "STREAMED", "Case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request."""

    name: str
    path: str
    body: Any = None  # None: GET
    method: str = "POST"


_QUESTION = "Please summarise the design of the block cache in three sentences."
_TOOL_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
}
_CHAT_TOOL = {
    "type": "function",
    "function": {"name": "read_file", "description": "Reads a file.", "parameters": _TOOL_PARAMETERS},
}
_MESSAGES_TOOL = {"name": "read_file", "description": "Reads a file.", "input_schema": _TOOL_PARAMETERS}
_RESPONSES_TOOL = {
    "type": "function",
    "name": "read_file",
    "description": "Reads a file.",
    "parameters": _TOOL_PARAMETERS,
}
#: A tool without parameters: a random model that must call it can only write `{}`.
_CLOSED: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}
_CHAT_CLOSED = {
    "type": "function",
    "function": {"name": "ping", "description": "Pings.", "parameters": _CLOSED},
}
_MESSAGES_CLOSED = {"name": "ping", "description": "Pings.", "input_schema": _CLOSED}
_RESPONSES_CLOSED = {"type": "function", "name": "ping", "description": "Pings.", "parameters": _CLOSED}
_CHAT_HISTORY = [
    {"role": "system", "content": "You are a careful engineer."},
    {"role": "user", "content": [{"type": "text", "text": "Read"}, {"type": "text", "text": "the file."}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "read_file", "arguments": '{"path": "a.py"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "print(1)"},
]
_MESSAGES_HISTORY = [
    {"role": "user", "content": "Read the file."},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a.py"}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "print(1)"}],
    },
]
_RESPONSES_HISTORY = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Read the file."}]},
    {"type": "function_call", "call_id": "call_1", "name": "read_file", "arguments": '{"path": "a.py"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "print(1)"},
]
_SYSTEM_BLOCKS = [
    {"type": "text", "text": "You are a careful engineer.", "cache_control": {"type": "ephemeral"}},
    {"type": "text", "text": "Answer briefly."},
]


def _completion(**more: Any) -> dict[str, Any]:
    return {"model": SERVED, "prompt": _QUESTION, "max_tokens": 6, "temperature": 0, **more}


def _chat(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": _QUESTION}]
    return {"model": SERVED, "messages": messages, "max_tokens": 6, "temperature": 0, **more}


def _responses(**more: Any) -> dict[str, Any]:
    return {
        "model": SERVED,
        "input": _QUESTION,
        "max_output_tokens": 6,
        "temperature": 0,
        "store": False,
        **more,
    }


def _messages(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": _QUESTION}]
    return {"model": SERVED, "messages": messages, "max_tokens": 6, "temperature": 0, **more}


_ROOM = 64  # tokens: enough for the call of a tool

#: Answered with 200 (GET and helpers too): status and shape must be equal.
ANSWERED = (
    Case(name="models", path="/v1/models", method="GET"),
    Case(name="version", path="/version", method="GET"),
    Case(name="load", path="/load", method="GET"),
    Case(name="completion", path="/v1/completions", body=_completion()),
    Case(name="completion-of-tokens", path="/v1/completions", body=_completion(prompt=list(range(100, 180)))),
    Case(name="chat", path="/v1/chat/completions", body=_chat()),
    Case(
        name="chat-newer-limit",
        path="/v1/chat/completions",
        body={**_chat(), "max_tokens": None, "max_completion_tokens": 4},
    ),
    Case(
        name="chat-history",
        path="/v1/chat/completions",
        body=_chat(messages=_CHAT_HISTORY, tools=[_CHAT_TOOL]),
    ),
    Case(
        name="chat-tool-named",
        path="/v1/chat/completions",
        body=_chat(
            tools=[_CHAT_CLOSED],
            tool_choice={"type": "function", "function": {"name": "ping"}},
            max_tokens=_ROOM,
        ),
    ),
    Case(name="responses", path="/v1/responses", body=_responses()),
    Case(
        name="responses-items",
        path="/v1/responses",
        body=_responses(input=_RESPONSES_HISTORY, tools=[_RESPONSES_TOOL]),
    ),
    Case(
        name="chat-tool-required",
        path="/v1/chat/completions",
        body=_chat(tools=[_CHAT_CLOSED], tool_choice="required", max_tokens=_ROOM),
    ),
    Case(
        name="responses-tool-required",
        path="/v1/responses",
        body=_responses(tools=[_RESPONSES_CLOSED], tool_choice="required", max_output_tokens=_ROOM),
    ),
    Case(name="responses-instructions", path="/v1/responses", body=_responses(instructions="Be brief.")),
    Case(name="messages", path="/v1/messages", body=_messages()),
    Case(name="messages-beta", path="/v1/messages?beta=true", body=_messages(system=_SYSTEM_BLOCKS)),
    Case(
        name="messages-history",
        path="/v1/messages",
        body=_messages(
            messages=_MESSAGES_HISTORY, tools=[_MESSAGES_TOOL], system="You are a careful engineer."
        ),
    ),
    Case(
        name="count-tokens",
        path="/v1/messages/count_tokens",
        body={"model": SERVED, "messages": _MESSAGES_HISTORY},
    ),
    Case(name="tokenize", path="/tokenize", body={"model": SERVED, "prompt": _QUESTION}),
    Case(
        name="tokenize-chat",
        path="/tokenize",
        body={"model": SERVED, "messages": _CHAT_HISTORY, "tools": [_CHAT_TOOL]},
    ),
    Case(name="detokenize", path="/detokenize", body={"model": SERVED, "tokens": list(range(300, 320))}),
)

#: Answered with a stream of events: order of kinds and shape by kind must be equal.
STREAMED = (
    Case(name="completion", path="/v1/completions", body=_completion(stream=True)),
    Case(
        name="completion-usage",
        path="/v1/completions",
        body=_completion(stream=True, stream_options={"include_usage": True}),
    ),
    Case(name="chat", path="/v1/chat/completions", body=_chat(stream=True)),
    Case(
        name="chat-usage",
        path="/v1/chat/completions",
        body=_chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": False}),
    ),
    Case(
        name="chat-tool-named",
        path="/v1/chat/completions",
        body=_chat(
            stream=True,
            tools=[_CHAT_CLOSED],
            tool_choice={"type": "function", "function": {"name": "ping"}},
            max_tokens=_ROOM,
        ),
    ),
    Case(name="responses", path="/v1/responses", body=_responses(stream=True)),
    Case(
        name="chat-tool-required",
        path="/v1/chat/completions",
        body=_chat(stream=True, tools=[_CHAT_CLOSED], tool_choice="required", max_tokens=_ROOM),
    ),
    Case(
        name="responses-tool-required",
        path="/v1/responses",
        body=_responses(
            stream=True, tools=[_RESPONSES_CLOSED], tool_choice="required", max_output_tokens=_ROOM
        ),
    ),
    Case(name="messages", path="/v1/messages", body=_messages(stream=True)),
    Case(
        name="messages-tool-any",
        path="/v1/messages",
        body=_messages(
            stream=True,
            tools=[_MESSAGES_CLOSED],
            tool_choice={"type": "any"},
            max_tokens=_ROOM,
        ),
    ),
)

_TOO_LONG = "word " * 40_000  # more tokens than any --max-model-len in these tests


def _mistakes(path: str, good: Mapping[str, Any], prompt: str, limit: str) -> list[Case]:
    """What each API must refuse; `prompt` and `limit` are its names of the field."""
    name = path.removeprefix("/v1/").replace("/", "-")
    long = [{"role": "user", "content": _TOO_LONG}] if prompt == "messages" else _TOO_LONG
    without = {key: value for key, value in good.items() if key != prompt}
    return [
        Case(name=f"{name}-unknown-model", path=path, body={**good, "model": "nobody"}),
        Case(name=f"{name}-too-long", path=path, body={**good, prompt: long}),
        Case(name=f"{name}-no-prompt", path=path, body=without),
        Case(name=f"{name}-no-json", path=path, body='{"model": '),
        Case(name=f"{name}-negative-limit", path=path, body={**good, limit: -1}),
        Case(name=f"{name}-limit-is-text", path=path, body={**good, limit: "many"}),
        Case(name=f"{name}-hot", path=path, body={**good, "temperature": -3}),
        Case(name=f"{name}-get", path=path, method="GET"),
    ]


#: Mistakes: status and shape must be equal.
REFUSED = (
    *_mistakes("/v1/completions", _completion(), "prompt", "max_tokens"),
    *_mistakes("/v1/chat/completions", _chat(), "messages", "max_tokens"),
    *_mistakes("/v1/responses", _responses(), "input", "max_output_tokens"),
    *_mistakes("/v1/messages", _messages(), "messages", "max_tokens"),
    Case(name="no-such-path", path="/v1/nothing", body={}),
    Case(
        name="chat-no-such-tool",
        path="/v1/chat/completions",
        body=_chat(tools=[_CHAT_TOOL], tool_choice={"type": "function", "function": {"name": "no_such"}}),
    ),
    Case(
        name="responses-no-such-previous",
        path="/v1/responses",
        body=_responses(previous_response_id="resp_nobody"),
    ),
    Case(name="tokenize-unknown-model", path="/tokenize", body={"model": "nobody", "prompt": "a"}),
    Case(
        name="count-tokens-unknown-model",
        path="/v1/messages/count_tokens",
        body={"model": "nobody", "messages": []},
    ),
)

#: What vLLM answers and the simulator refuses with 400, saying so: no agent client asks for it.
NOT_SIMULATED = (
    Case(name="completion-twice", path="/v1/completions", body=_completion(n=2, temperature=0.5, seed=1)),
)
