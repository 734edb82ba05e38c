"""The HTTP application: paths, errors, keys and request ids."""

import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry

from agentic_serving.enginesim import chat, completions, messages, misc, rendering, responses
from agentic_serving.enginesim.faults import Fault, anthropic_body, openai_body
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.service import Service
from agentic_serving.enginesim.wire import json_answer

__all__ = ["MAX_BODY_BYTES", "application"]

#: vLLM has no limit of its own; prompts of agents reach some MB.
MAX_BODY_BYTES = 256 * 2**20

Handler = Callable[[Service, web.Request], Awaitable[web.StreamResponse]]
_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

_GENERATING: dict[str, Handler] = {
    "/v1/chat/completions": chat.completions,
    "/v1/completions": completions.complete,
    "/v1/messages": messages.messages,
    "/v1/responses": responses.respond,
}
_POST: dict[str, Handler] = {
    "/v1/messages/count_tokens": messages.count_tokens,
    "/tokenize": misc.tokenize,
    "/detokenize": misc.detokenize,
}
_GET: dict[str, Handler] = {
    "/health": misc.health,
    "/ping": misc.health,
    "/version": misc.version,
    "/load": misc.load,
    "/kv_event_sources": misc.kv_event_sources,
    "/v1/models": misc.models,
}
_DEV: dict[str, Handler] = {"/reset_prefix_cache": misc.reset}
_RENDER: dict[str, Handler] = {
    "/v1/chat/completions/render": rendering.render_chat,
    "/v1/messages/render": rendering.render_messages,
    "/v1/completions/render": rendering.render_completion,
}
#: Paths that an API key guards.
_GUARDED = ("/v1", "/v2", "/inference", "/cohere")


def application(
    service: Service, registry: CollectorRegistry, knobs: Knobs, *, render_only: bool = False
) -> web.Application:
    """All paths of one engine; `render_only`: of a tokenizer service, which generates nothing."""
    keys = (*service.options.api_keys, *knobs.api_keys)
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            _faults(since_033=service.since_033),
            _keys(frozenset(keys)),
        ],
    )
    if service.options.request_id_headers:
        _add_request_id(app)
    for path, handler in (_RENDER if render_only else _GENERATING).items():
        app.router.add_post(path, _bound(service, _counted(handler)))
    for path, handler in {**_POST, **(_DEV if knobs.dev_mode else {})}.items():
        app.router.add_post(path, _bound(service, handler))
    for path, handler in _GET.items():
        app.router.add_get(path, _bound(service, handler))
    app.router.add_post("/ping", _bound(service, misc.health))

    async def metrics(_: web.Request) -> web.StreamResponse:
        return misc.metrics(registry)

    app.router.add_get("/metrics", metrics)
    return app


def _bound(service: Service, handler: Handler) -> _Next:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(service, request)

    return handle


def _counted(handler: Handler) -> Handler:
    async def handle(service: Service, request: web.Request) -> web.StreamResponse:
        service.load += 1
        try:
            return await handler(service, request)
        finally:
            service.load -= 1

    return handle


def _faults(*, since_033: bool) -> Middleware:
    """Errors in the shape of the path's API."""

    @web.middleware
    async def shape(request: web.Request, handler: _Next) -> web.StreamResponse:
        try:
            return await handler(request)
        except Fault as fault:
            if request.path.startswith("/v1/messages") and fault.shaped:
                return json_answer(anthropic_body(fault, since_033=since_033), fault.status)
            return json_answer(openai_body(fault), fault.status)
        except web.HTTPException as error:
            answer = json_answer({"detail": HTTPStatus(error.status).phrase}, error.status)
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer

    return shape


def _keys(keys: frozenset[str]) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: _Next) -> web.StreamResponse:
        if keys and request.path.startswith(_GUARDED) and request.method != "OPTIONS":
            scheme, _, key = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or key not in keys:
                return json_answer({"error": "Unauthorized"}, 401)
        return await handler(request)

    return check


def _add_request_id(app: web.Application) -> None:
    """X-Request-Id on every answer, streams too: the client's, else a new one (`--enable-request-id-headers`)."""

    async def add(request: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["X-Request-Id"] = request.headers.get("X-Request-Id", uuid.uuid4().hex)

    app.on_response_prepare.append(add)
