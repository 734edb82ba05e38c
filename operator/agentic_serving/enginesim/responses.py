"""POST /v1/responses. Source: vLLM 0.33.0, vllm/entrypoints/openai/responses.

Nothing is stored, as in vLLM without VLLM_ENABLE_RESPONSES_API_STORE: a `previous_response_id` is never found.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.chat import check_tools, priority_of, template_function
from agentic_serving.enginesim.conversation import Conversation, ToolChoice, ToolSpec, joined_text
from agentic_serving.enginesim.faults import Fault, openai_body, refused
from agentic_serving.enginesim.items import ItemStream, Status, items_of
from agentic_serving.enginesim.schemas import ResponsesRequest
from agentic_serving.enginesim.service import Asked, Running, Service
from agentic_serving.enginesim.wire import body_of, json_answer, named_event, request_id_of, stream

__all__ = ["respond"]

_TOOL_FIELDS = ("allowed_callers", "async", "defer_loading", "description", "output_schema", "strict")


async def respond(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request."""
    body = await body_of(request, ResponsesRequest)
    service.check_model(body.model)
    if body.previous_response_id is not None:
        message = f"Response with id '{body.previous_response_id}' not found."
        raise Fault(message, kind="invalid_request_error", status=404, param="response_id")
    tools = tuple(_tools(body.tools))
    choice = _choice(body, tools)
    if choice.kind != "auto" or service.options.auto_tools:
        check_tools(service, choice)
    conversation = Conversation(messages=_messages(body), tools=tools, choice=choice)
    asked = Asked(
        model=body.model,
        request_id=f"resp_{request_id_of(request, body.request_id or uuid.uuid4().hex)}",
        prompt=conversation,
        max_tokens=body.max_output_tokens,
        max_tokens_name="max_output_tokens",
        temperature=body.temperature,
        priority=priority_of(request, body.priority),
        salt=body.cache_salt or "",
        ignore_eos=body.ignore_eos,
        kv_transfer=body.kv_transfer_params or {},
    )
    running = await service.start(asked)
    if body.stream:
        return await stream(request, _events(service, running, body), on_fault=_failed)
    await running.complete()
    status = _status(running)
    shown: Status = status if service.since_033 else "completed"
    items = items_of(running.answer, _by_name(tools))
    output = [item.body(shown if item is items[-1] else "completed") for item in items]
    return json_answer(_response(service, running, body, output=output, status=status))


def _messages(body: ResponsesRequest) -> list[dict[str, Any]]:
    """Input items as chat messages: what one assistant turn consists of becomes one message."""
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    found: list[dict[str, Any]] = []
    for item in body.input:
        _append(found, item)
    return messages + found


def _append(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    """Add one item, to the assistant message before it where it belongs to that.

    Raises:
        Fault: 400, no message can be made of it.
    """
    kind = item.get("type")
    if kind in ("function_call", "custom_tool_call"):
        _assistant(messages, "tool_calls").setdefault("tool_calls", []).append(_call(item))
    elif kind == "reasoning":
        parts = item.get("content") or item.get("summary") or [{"text": ""}]
        _assistant(messages, "reasoning")["reasoning"] = parts[0].get("text", "")
    elif kind in ("function_call_output", "custom_tool_call_output"):
        content = item.get("output")
        messages.append({"role": "tool", "content": content, "tool_call_id": item.get("call_id")})
    elif item.get("role") == "assistant":
        _assistant(messages, "content")["content"] = _first_text(item.get("content"))
    elif "role" in item:
        messages.append({"role": item["role"], "content": joined_text(item.get("content"))})
    else:
        raise refused(f"Unsupported input item type: {kind}", "input")


def _assistant(messages: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The assistant message that takes a field: the last message if it has none yet (calls are added to), else a new one."""
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant" and (wanted == "tool_calls" or last.get(wanted) is None):
        return last
    messages.append({"role": "assistant"})
    return messages[-1]


def _first_text(content: Any) -> str:  # noqa: ANN401 - text or parts
    if isinstance(content, str) or not content:
        return content or ""
    return str(content[0].get("text") or "")


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    arguments = item.get("arguments") or "{}"
    if item["type"] == "custom_tool_call":
        arguments = json.dumps({"input": item.get("input") or ""}, ensure_ascii=False)
    name = item.get("name")
    if item.get("namespace"):
        name = f"{item['namespace']}__{name}"
    return {"id": item.get("call_id"), "type": "function", "function": {"name": name, "arguments": arguments}}


def _tools(tools: Iterable[Mapping[str, Any]], namespace: str = "") -> Iterable[ToolSpec]:
    """Function, custom and namespaced tools; others are the provider's own and do nothing here."""
    for tool in tools:
        kind = tool.get("type")
        if kind == "namespace":
            yield from _tools(tool.get("tools") or (), str(tool.get("name")))
        elif kind == "function" or (kind == "custom" and not namespace):
            yield _tool(tool, namespace, custom=kind == "custom")


def _tool(tool: Mapping[str, Any], namespace: str, *, custom: bool) -> ToolSpec:
    free_text = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    parameters = free_text if custom else tool.get("parameters") or {}
    name = f"{namespace}__{tool.get('name')}" if namespace else str(tool.get("name"))
    function = template_function({**tool, "name": name, "parameters": parameters})
    template = {"type": "function", "function": function}
    return ToolSpec(name=name, parameters=parameters, template=template, custom=custom, namespace=namespace)


def _choice(body: ResponsesRequest, tools: Sequence[ToolSpec]) -> ToolChoice:
    """The choice in one form.

    Raises:
        Fault: 400, it names a tool that is not offered.
    """
    choice = body.tool_choice
    if not tools or choice == "none":
        return ToolChoice()
    if isinstance(choice, str):
        return ToolChoice(kind="required" if choice == "required" else "auto")
    name = str(choice.get("name", ""))
    if name not in {tool.name for tool in tools}:
        raise refused(
            "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
        )
    return ToolChoice(kind="named", name=name)


def _by_name(tools: Sequence[ToolSpec]) -> Mapping[str, ToolSpec]:
    return {tool.name: tool for tool in tools}


def _status(running: Running) -> Status:
    if running.answer.finish == "abort":
        return "cancelled"
    return "incomplete" if running.answer.finish == "length" else "completed"


def _failed(fault: Fault) -> bytes:
    return named_event("error", {"type": "error", **openai_body(fault)["error"]})


async def _events(service: Service, running: Running, body: ResponsesRequest) -> AsyncIterator[bytes]:
    number = 0

    def event(content: dict[str, Any]) -> bytes:
        nonlocal number
        number += 1
        return named_event(str(content["type"]), {**content, "sequence_number": number - 1})

    conversation = running.asked.prompt
    tools = conversation.tools if isinstance(conversation, Conversation) else ()
    begun = _response(service, running, body, output=[], status="in_progress")
    items = ItemStream(_by_name(tools), cut_shows=service.since_033)
    for kind in ("response.created", "response.in_progress"):
        yield event({"type": kind, "response": begun})
    async for deltas in running.chunks():
        for delta in deltas:
            for found in items.add(delta):
                yield event(found)
    status = _status(running)
    for found in items.close(status):
        yield event(found)
    shown: Status = status if service.since_033 else "completed"
    output = [item.body(shown if item is items.items[-1] else "completed") for item in items.items]
    final = _response(service, running, body, output=output, status=status)
    kind = "response.incomplete" if status == "incomplete" and service.since_033 else "response.completed"
    yield event({"type": kind, "response": final})


def _response(
    service: Service, running: Running, body: ResponsesRequest, *, output: list[dict[str, Any]], status: str
) -> dict[str, Any]:
    """The response object; usage once it is over."""
    room = service.max_model_len - len(running.prompt)
    over = status != "in_progress"
    newer = {
        "prompt_cache_options": None,
        "prompt_cache_key": body.prompt_cache_key,
        "prompt_cache_retention": None,
        "safety_identifier": None,
    }
    return {
        "id": running.asked.request_id,
        "created_at": int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.instructions,
        "metadata": body.metadata,
        "model": running.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": body.parallel_tool_calls,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "tool_choice": body.tool_choice if body.tools else "none",
        "tools": [_echo(tool) for tool in body.tools],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "background": bool(body.background),
        "max_output_tokens": min(body.max_output_tokens or room, room),
        "max_tool_calls": None,
        "previous_response_id": None,
        "prompt": None,
        **(newer if service.since_033 else {}),
        "reasoning": body.reasoning,
        "service_tier": body.service_tier,
        "status": status,
        "text": body.text,
        "top_logprobs": None,
        "truncation": body.truncation,
        "usage": _usage_body(service, running) if over else None,
        "user": body.user,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": running.kv_transfer() if over else None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _echo(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return dict(tool)
    return {**dict.fromkeys(_TOOL_FIELDS), "parameters": None, **tool}


def _usage_body(service: Service, running: Running) -> dict[str, Any]:
    usage = running.usage()
    block = service.options.block_tokens
    written = max(0, usage.prompt_tokens // block * block - usage.cached_tokens)
    thoughts = [1 for deltas in running.answer.deltas if any(d.kind == "reasoning" for d in deltas)]
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": written,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "reasoning_tokens": len(thoughts),
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }
