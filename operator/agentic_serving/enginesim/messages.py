"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API, converted as vLLM converts it.

Source: vLLM 0.33.0, vllm/entrypoints/anthropic/serving.py.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.chat import check_tools
from agentic_serving.enginesim.chatanswer import new_call_id
from agentic_serving.enginesim.conversation import Conversation, ToolChoice, ToolSpec
from agentic_serving.enginesim.faults import refused
from agentic_serving.enginesim.messageanswer import error_event, message_events, whole_message
from agentic_serving.enginesim.schemas import CountRequest, MessagesRequest
from agentic_serving.enginesim.service import Asked, Service
from agentic_serving.enginesim.wire import body_of, json_answer, request_id_of, stream

__all__ = ["conversation_of", "count_tokens", "messages"]

#: A line that changes with each version of Claude Code; vLLM drops it, as it would defeat prefix caching.
_BILLING = "x-anthropic-billing-header"


async def messages(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request."""
    body = await body_of(request, MessagesRequest)
    service.check_model(body.model)
    conversation = conversation_of(service, body)
    _check(service, conversation)
    asked = Asked(
        model=body.model,
        request_id=f"chatcmpl-{request_id_of(request, uuid.uuid4().hex)}",
        prompt=conversation,
        max_tokens=body.max_tokens,
        max_tokens_name="max_completion_tokens",
        stop=tuple(body.stop_sequences or ()),
        temperature=body.temperature,
        salt=body.cache_salt or "",
        kv_transfer=body.kv_transfer_params or {},
    )
    running = await service.start(asked)
    if body.stream:
        return await stream(request, message_events(service, running), on_fault=error_event)
    await running.complete()
    return json_answer(whole_message(service, running))


async def count_tokens(service: Service, request: web.Request) -> web.StreamResponse:
    """Tokens of a prompt."""
    body = await body_of(request, CountRequest)
    service.check_model(body.model)
    ids = await service.tokenize(conversation_of(service, body), special=False)
    return json_answer({"input_tokens": len(ids), "context_management": {"original_input_tokens": len(ids)}})


def conversation_of(service: Service, body: CountRequest) -> Conversation:
    """The request as templates and scripts see it."""
    merge = service.renderer.merges_system
    converted: list[dict[str, Any]] = []
    texts = list(_system_texts(body.system))
    if merge:
        texts += [text for m in body.messages if m.role == "system" for text in _system_texts(m.content)]
    if texts:
        converted.append({"role": "system", "content": "".join(texts)})
    for message in body.messages:
        if message.role == "system":
            text = "".join(_system_texts(message.content))
            if text and not merge:
                converted.append({"role": "system", "content": text})
        elif isinstance(message.content, str):
            converted.append({"role": message.role, "content": message.content})
        else:
            converted.extend(_converted(message.role, message.content))
    return Conversation(
        messages=converted,
        tools=_tools(body),
        choice=_choice(body),
        template_kwargs=body.chat_template_kwargs or {},
    )


def _system_texts(content: Any) -> Iterable[str]:  # noqa: ANN401 - text or blocks
    """System texts without the billing line."""
    if isinstance(content, str):
        yield from [] if not content or content.startswith(_BILLING) else [content]
        return
    for block in content or ():
        if block.type == "text" and block.text and not block.text.startswith(_BILLING):
            yield block.text


def _converted(role: str, blocks: Sequence[Any]) -> Iterable[dict[str, Any]]:
    """One message's blocks as messages of Chat Completions: tool results come first, each on its own."""
    parts: list[dict[str, str]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in blocks:
        if block.type == "text" and block.text:
            parts.append({"type": "text", "text": block.text})
        elif block.type == "thinking" and block.thinking is not None:
            thoughts.append(block.thinking)
        elif block.type == "tool_use":
            calls.append(_call(block))
        elif block.type == "tool_result" and role == "user":
            yield {"role": "tool", "tool_call_id": block.tool_use_id or "", "content": _result(block.content)}
        elif block.type == "tool_result":
            parts.append({"type": "text", "text": f"Tool result: {block.content or ''}"})
    message: dict[str, Any] = {"role": role}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if parts:
        message["content"] = parts[0]["text"] if len(parts) == 1 else parts
    if role != "user" or "content" in message:
        yield message


def _call(block: Any) -> dict[str, Any]:  # noqa: ANN401 - a block
    function = {"name": block.name or "", "arguments": json.dumps(block.input or {})}
    return {"id": block.id or new_call_id(), "type": "function", "function": function}


def _result(content: str | list[dict[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(item.get("text", "") for item in content if item.get("type") == "text")


def _tools(body: CountRequest) -> tuple[ToolSpec, ...]:
    found = []
    for tool in body.tools or ():
        schema = {**tool.input_schema, **({} if "type" in tool.input_schema else {"type": "object"})}
        function = {"name": tool.name, "description": tool.description, "parameters": schema}
        template = {"type": "function", "function": function}
        found.append(ToolSpec(name=tool.name, parameters=schema, template=template))
    return tuple(found)


def _choice(body: CountRequest) -> ToolChoice:
    choice = body.tool_choice
    if not body.tools or (choice is not None and choice.type == "none"):
        return ToolChoice()
    if choice is None or choice.type == "auto":
        return ToolChoice(kind="auto")
    return (
        ToolChoice(kind="required")
        if choice.type == "any"
        else ToolChoice(kind="named", name=choice.name or "")
    )


def _check(service: Service, conversation: Conversation) -> None:
    choice = conversation.choice
    if choice.kind == "named" and choice.name not in {tool.name for tool in conversation.tools}:
        raise refused(
            "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
        )
    check_tools(service, choice)
