"""Request bodies of four APIs, as the three clients write them.

Tools are offered as the clients do, but `tool_choice` is none unless told otherwise: the engine's own answer is not used (the
next turn sends the recorded one), and an engine without a tool parser refuses `auto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from agentic_serving.replay.conversation import Conversation, Entry

__all__ = ["API_PATHS", "Api", "BodyOptions", "body", "side_request"]

Api = Literal["messages", "responses", "chat", "completions"]

API_PATHS: Mapping[Api, str] = {
    "messages": "/v1/messages?beta=true",
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
}

_BILLING = "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=cli;"
_TITLE = "You write a title of at most 50 characters for the conversation. Answer with the title only."


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyOptions:
    """What bodies have besides the conversation.

    Attributes:
        model: the served name.
        max_tokens: the answer's bound.
        stream: server-sent events.
        tool_choice: `none` or `auto`.
        ignore_eos: ask for exactly `max_tokens` tokens: an extension of vLLM, refused by others.
        session: the session's id as the client writes it.
    """

    model: str
    max_tokens: int
    stream: bool = True
    tool_choice: Literal["none", "auto"] = "none"
    ignore_eos: bool = False
    session: str = ""


def body(api: Api, conversation: Conversation, options: BodyOptions) -> dict[str, Any]:
    """The JSON body of a turn."""
    made = _MAKERS[api](conversation, options)
    if options.ignore_eos:
        made["ignore_eos"] = True
    return made


def side_request(conversation: Conversation) -> Conversation:
    """OpenCode's first request of a session: a title for the first message; short, and without tools."""
    text = conversation.entries[0].text[:200] if conversation.entries else ""
    return Conversation(
        tools=(), system=_TITLE, entries=(Entry("user", text),), expected_tokens=0, output_tokens=16
    )


def _messages(conversation: Conversation, options: BodyOptions) -> dict[str, Any]:
    system = [{"type": "text", "text": _BILLING}]
    if conversation.system:
        system.append({"type": "text", "text": conversation.system, "cache_control": {"type": "ephemeral"}})  # type: ignore[dict-item]
    messages = [_anthropic(entry) for entry in conversation.entries]
    made: dict[str, Any] = {
        "model": options.model,
        "max_tokens": options.max_tokens,
        "stream": options.stream,
        "system": system,
        "messages": messages,
        "metadata": {"user_id": orjson.dumps({"session_id": options.session}).decode()},
    }
    if conversation.tools:
        made["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": _SCHEMA}
            for t in conversation.tools
        ]
        made["tool_choice"] = {"type": options.tool_choice}
    _mark_last(messages)
    return made


def _mark_last(messages: list[dict[str, Any]]) -> None:
    """Claude Code marks the last user content for caching; the mark moves on with every turn."""
    if messages and messages[-1]["role"] == "user":
        messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}


def _anthropic(entry: Entry) -> dict[str, Any]:
    if entry.role == "tool":
        result = {"type": "tool_result", "tool_use_id": entry.call_id, "content": entry.text}
        return {"role": "user", "content": [result]}
    content: list[dict[str, Any]] = [{"type": "text", "text": entry.text}]
    if entry.call:
        content.append(
            {
                "type": "tool_use",
                "id": entry.call.id,
                "name": entry.call.name,
                "input": {"input": entry.call.argument},
            }
        )
    return {"role": entry.role, "content": content}


def _responses(conversation: Conversation, options: BodyOptions) -> dict[str, Any]:
    made: dict[str, Any] = {
        "model": options.model,
        "input": [item for entry in conversation.entries for item in _items(entry)],
        "parallel_tool_calls": True,
        "store": False,
        "stream": options.stream,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": options.session,
        "max_output_tokens": options.max_tokens,
    }
    if conversation.system:
        made["instructions"] = conversation.system
    if conversation.tools:
        made["tools"] = [
            {"type": "function", "strict": False, **_function(t.name, t.description)}
            for t in conversation.tools
        ]
        made["tool_choice"] = options.tool_choice
    return made


def _items(entry: Entry) -> list[dict[str, Any]]:
    if entry.role == "tool":
        return [{"type": "function_call_output", "call_id": entry.call_id, "output": entry.text}]
    kind = "output_text" if entry.role == "assistant" else "input_text"
    items: list[dict[str, Any]] = [
        {"type": "message", "role": entry.role, "content": [{"type": kind, "text": entry.text}]}
    ]
    if entry.call:
        items.append(
            {
                "type": "function_call",
                "call_id": entry.call.id,
                "name": entry.call.name,
                "arguments": _arguments(entry.call.argument),
            }
        )
    return items


def _chat(conversation: Conversation, options: BodyOptions) -> dict[str, Any]:
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    made: dict[str, Any] = {
        "model": options.model,
        "messages": [*system, *(_chat_message(entry) for entry in conversation.entries)],
        "max_tokens": options.max_tokens,
        "stream": options.stream,
    }
    if options.stream:
        made["stream_options"] = {"include_usage": True}
    if conversation.tools:
        made["tools"] = [
            {"type": "function", "function": _function(t.name, t.description)} for t in conversation.tools
        ]
        made["tool_choice"] = options.tool_choice
    return made


def _chat_message(entry: Entry) -> dict[str, Any]:
    if entry.role == "tool":
        return {"role": "tool", "tool_call_id": entry.call_id, "content": entry.text}
    message: dict[str, Any] = {"role": entry.role, "content": entry.text}
    if entry.call:
        function = {"name": entry.call.name, "arguments": _arguments(entry.call.argument)}
        message["tool_calls"] = [{"id": entry.call.id, "type": "function", "function": function}]
    return message


def _completions(conversation: Conversation, options: BodyOptions) -> dict[str, Any]:
    """One text: an API without messages sees the same words in the same order."""
    words = [t.description for t in conversation.tools]
    words += [conversation.system] if conversation.system else []
    for entry in conversation.entries:
        words += [entry.text, entry.call.argument] if entry.call else [entry.text]
    made: dict[str, Any] = {
        "model": options.model,
        "prompt": " ".join(words),
        "max_tokens": options.max_tokens,
        "stream": options.stream,
    }
    if options.stream:
        made["stream_options"] = {"include_usage": True}
    return made


def _function(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": _SCHEMA}


def _arguments(argument: str) -> str:
    return orjson.dumps({"input": argument}).decode()


_SCHEMA = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
_MAKERS = {"messages": _messages, "responses": _responses, "chat": _chat, "completions": _completions}
