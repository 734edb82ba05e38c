"""POST /v1/completions. Source: vLLM 0.33.0, vllm/entrypoints/openai/completion."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.chat import priority_of, stops
from agentic_serving.enginesim.chatanswer import counts_body, details_body, usage_wanted
from agentic_serving.enginesim.faults import Fault, refused
from agentic_serving.enginesim.schemas import CompletionRequest
from agentic_serving.enginesim.service import Asked, Running, Service
from agentic_serving.enginesim.wire import body_of, data_event, json_answer, request_id_of, stream

__all__ = ["complete", "prompt_of"]


async def complete(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request."""
    body = await body_of(request, CompletionRequest)
    service.check_model(body.model)
    prompt = prompt_of(body)
    asked = Asked(
        model=body.model,
        request_id=f"cmpl-{request_id_of(request, body.request_id or uuid.uuid4().hex)}",
        prompt=prompt,
        max_tokens=body.max_tokens,
        stop=stops(body.stop),
        temperature=body.temperature,
        priority=priority_of(request, body.priority),
        salt=body.cache_salt or "",
        ignore_eos=body.ignore_eos,
        min_tokens=body.min_tokens,
        include_stop=body.include_stop_str_in_output,
        add_special_tokens=body.add_special_tokens,
        kv_transfer=body.kv_transfer_params or {},
    )
    running = await service.start(asked)
    if body.stream:
        return await stream(request, _events(service, running, body))
    await running.complete()
    return json_answer(_whole(service, running))


def prompt_of(body: CompletionRequest) -> str | list[int]:
    """The one prompt.

    Raises:
        Fault: 400, there is none, or more than the simulator answers.
    """
    if body.stream_options and body.stream_options.model_fields_set and not body.stream:
        raise refused("Stream options can only be defined when `stream=True`.", "stream_options")
    if body.n != 1:
        raise Fault("the engine simulator answers n=1 only", param="n")
    prompt = body.prompt
    if not prompt:
        raise refused("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, str):
        return prompt
    if all(isinstance(part, int) for part in prompt):
        return [part for part in prompt if isinstance(part, int)]
    if len(prompt) != 1:
        raise Fault("the engine simulator answers one prompt per request", param="prompt")
    one = prompt[0]
    return one if isinstance(one, str) else list(one) if isinstance(one, list) else [one]


def _head(running: Running) -> dict[str, Any]:
    return {
        "id": running.asked.request_id,
        "object": "text_completion",
        "created": running.created_s,
        "model": running.model,
    }


def _finish(running: Running) -> str:
    return running.answer.finish


async def _events(service: Service, running: Running, body: CompletionRequest) -> AsyncIterator[bytes]:
    include, continuous = usage_wanted(service, body.stream_options)
    async for deltas in running.chunks():
        last = running.handle.settled is not None
        choice: dict[str, Any] = {
            "index": 0,
            "text": "".join(delta.text for delta in deltas),
            "logprobs": None,
            "finish_reason": _finish(running) if last else None,
            "stop_reason": running.answer.stop_text if last else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        chunk = {**_head(running), "choices": [choice]}
        if service.since_033:
            choice["weight_versions"] = None
            chunk["kv_transfer_params"] = running.kv_transfer() if last else None
        if last and not include:
            chunk["system_fingerprint"] = service.fingerprint
        if continuous:
            chunk["usage"] = counts_body(running.usage())
        yield data_event(chunk)
    if include:
        yield data_event(_usage_chunk(service, running))
    yield data_event("[DONE]")


def _usage_chunk(service: Service, running: Running) -> dict[str, Any]:
    usage = running.usage()
    body = counts_body(usage)
    if service.options.prompt_details:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return {**_head(running), "choices": [], "usage": body, "system_fingerprint": service.fingerprint}


def _whole(service: Service, running: Running) -> dict[str, Any]:
    usage = running.usage()
    details = details_body(service, usage)
    if details is not None:
        details["created_cache_tokens"] = None  # this API does not report it
    choice: dict[str, Any] = {
        "index": 0,
        "text": running.answer.text(),
        "logprobs": None,
        "finish_reason": _finish(running),
        "stop_reason": running.answer.stop_text,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }
    if service.since_033:
        choice["weight_versions"] = None
    return {
        **_head(running),
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": service.fingerprint,
        "usage": {**counts_body(usage), "prompt_tokens_details": details, "completion_tokens_details": None},
        "kv_transfer_params": running.kv_transfer(),
        "ec_transfer_params": None,
        "metrics": None,
    }
