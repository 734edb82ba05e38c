"""The other paths: models, tokens, health, version, load, metrics, and what VLLM_SERVER_DEV_MODE adds.

Source: vLLM 0.33.0, vllm/entrypoints/serve/{instrumentator,tokenize,dev} and openai/models.
"""

import time
import uuid
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agentic_serving.enginesim.chat import chat_tools
from agentic_serving.enginesim.conversation import Conversation
from agentic_serving.enginesim.schemas import DetokenizeRequest, TokenizeRequest
from agentic_serving.enginesim.service import Service
from agentic_serving.enginesim.wire import body_of, json_answer

__all__ = [
    "detokenize",
    "health",
    "kv_event_sources",
    "load",
    "metrics",
    "models",
    "reset",
    "tokenize",
    "version",
]


async def models(service: Service, _: web.Request) -> web.Response:
    """GET /v1/models."""
    return json_answer(
        {"object": "list", "data": [_card(service, name) for name in service.options.served_names]}
    )


def _card(service: Service, name: str) -> dict[str, Any]:
    now = int(time.time())
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": service.options.model,
        "parent": None,
        "max_model_len": service.max_model_len,
        "permission": [permission],
    }


async def tokenize(service: Service, request: web.Request) -> web.Response:
    """POST /tokenize, of a prompt or of messages."""
    body = await body_of(request, TokenizeRequest)
    service.check_model(body.model)
    prompt: str | Conversation = body.prompt or ""
    if body.messages is not None:
        prompt = Conversation(
            messages=body.messages,
            tools=chat_tools([tool.model_dump() for tool in body.tools or ()]),
            add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
            continue_final_message=body.continue_final_message,
            template_kwargs=body.chat_template_kwargs or {},
        )
    special = body.add_special_tokens if body.add_special_tokens is not None else body.messages is None
    ids = list(await service.tokenize(prompt, special=special))
    spelled = service.tokenizer.spellings(ids) if body.return_token_strs else None
    return json_answer(
        {"count": len(ids), "max_model_len": service.max_model_len, "tokens": ids, "token_strs": spelled}
    )


async def detokenize(service: Service, request: web.Request) -> web.Response:
    """POST /detokenize."""
    body = await body_of(request, DetokenizeRequest)
    service.check_model(body.model)
    return json_answer({"prompt": service.tokenizer.decode(body.tokens)})


async def health(_: Service, __: web.Request) -> web.Response:
    """GET /health: 200 also while draining, as vLLM's."""
    return web.Response()


async def version(service: Service, _: web.Request) -> web.Response:
    """GET /version."""
    return json_answer({"version": service.version})


async def load(service: Service, _: web.Request) -> web.Response:
    """GET /load: requests being answered; always 0 without --enable-server-load-tracking."""
    return json_answer({"server_load": service.load if service.options.load_tracking else 0})


async def reset(service: Service, _: web.Request) -> web.Response:
    """POST /reset_prefix_cache."""
    return json_answer({"success": service.engine.reset()})


async def kv_event_sources(service: Service, _: web.Request) -> web.Response:
    """GET /kv_event_sources: the publisher's settings by data-parallel rank."""
    config = service.options.kv_events
    if not config.get("enable_kv_cache_events"):
        return json_answer({})
    return json_answer(
        {"0": {"endpoint": config.get("endpoint", "tcp://*:5557"), "topic": config.get("topic", "")}}
    )


def metrics(registry: CollectorRegistry) -> web.Response:
    """GET /metrics."""
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
