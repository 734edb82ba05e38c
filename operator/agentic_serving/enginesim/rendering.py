"""`vllm launch render`: the tokenizer service that precise prefix routing asks for token ids.

Source: vLLM 0.33.0, vllm/entrypoints/scale_out/render and token_in_token_out/protocol.py (GenerateRequest).
"""

import uuid
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.chat import asked_for, conversation_of
from agentic_serving.enginesim.completions import prompt_of
from agentic_serving.enginesim.messages import conversation_of as conversation_of_messages
from agentic_serving.enginesim.schemas import ChatRequest, CompletionRequest, MessagesRequest
from agentic_serving.enginesim.service import Service
from agentic_serving.enginesim.wire import body_of, json_answer

__all__ = ["render_chat", "render_completion", "render_messages"]


async def render_chat(service: Service, request: web.Request) -> web.Response:
    """POST /v1/chat/completions/render."""
    body = await body_of(request, ChatRequest)
    service.check_model(body.model)
    ids = await service.tokenize(conversation_of(body), special=False)
    asked = asked_for(body, conversation_of(body), uuid.uuid4().hex, body.priority)
    return json_answer(_rendered(ids, body, asked.request_id, asked.max_tokens))


async def render_messages(service: Service, request: web.Request) -> web.Response:
    """POST /v1/messages/render."""
    body = await body_of(request, MessagesRequest)
    service.check_model(body.model)
    ids = await service.tokenize(conversation_of_messages(service, body), special=False)
    return json_answer(_rendered(ids, body, f"chatcmpl-{uuid.uuid4().hex}", body.max_tokens))


async def render_completion(service: Service, request: web.Request) -> web.Response:
    """POST /v1/completions/render: a list, one entry for each prompt."""
    body = await body_of(request, CompletionRequest)
    service.check_model(body.model)
    ids = await service.tokenize(prompt_of(body), special=body.add_special_tokens)
    return json_answer([_rendered(ids, body, f"cmpl-{uuid.uuid4().hex}", body.max_tokens)])


def _rendered(
    ids: Sequence[int],
    body: ChatRequest | CompletionRequest | MessagesRequest,
    request_id: str,
    limit: int | None,
) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "token_ids": list(ids),
        "token_offsets": None,
        "features": None,
        "content_parts": None,
        "sampling_params": {"max_tokens": limit, "temperature": body.temperature},
        "model": body.model,
        "stream": bool(body.stream),
        "cache_salt": body.cache_salt,
        "priority": getattr(body, "priority", 0),
        "kv_transfer_params": body.kv_transfer_params,
    }
