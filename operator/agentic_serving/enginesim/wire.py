"""What every handler needs of HTTP: bodies in, JSON and server-sent events out."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from agentic_serving.enginesim.faults import Fault, invalid, openai_body

__all__ = ["body_of", "data_event", "json_answer", "named_event", "request_id_of", "stream"]

_Body = TypeVar("_Body", bound=BaseModel)


async def body_of(request: web.Request, schema: type[_Body]) -> _Body:
    """The request's body, checked.

    Raises:
        Fault: 400, it is no JSON or not as declared.
    """
    if request.content_type != "application/json":
        raise invalid("Unsupported Media Type: Only 'application/json' is allowed")
    raw = await request.read()
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _no_json(error) from None
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None


def _no_json(error: orjson.JSONDecodeError) -> Fault:
    """As FastAPI says it: where the body stops being JSON, and what the standard library's parser says."""
    try:
        json.loads(error.doc)
        message, position = error.msg, error.pos
    except json.JSONDecodeError as plain:
        message, position = plain.msg, plain.pos
    place = f"body.{position}"
    entry = {"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": "<dict of 0 items>"}
    fault = invalid(str({**entry, "ctx": {"error": message}}))
    fault.param = place
    return fault


def json_answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def request_id_of(request: web.Request, default: str) -> str:
    """The client's X-Request-Id, else `default`."""
    return request.headers.get("X-Request-Id") or default


def data_event(body: Mapping[str, Any] | str) -> bytes:
    """An event without a name."""
    text = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return b"data: " + text + b"\n\n"


def named_event(name: str, body: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\n" + data_event(body)


def _chat_error(fault: Fault) -> bytes:
    return data_event(openai_body(fault)) + data_event("[DONE]")


async def stream(
    request: web.Request, events: AsyncIterator[bytes], *, on_fault: Callable[[Fault], bytes] = _chat_error
) -> web.StreamResponse:
    """Send events as they come. A client that goes away ends the iterator, and with it the engine's work."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    try:
        await response.prepare(request)
        async for event in events:
            await response.write(event)
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        await _close(events)
        raise
    except Fault as fault:
        await response.write(on_fault(fault))
        await response.write_eof()
    return response


async def _close(events: AsyncIterator[bytes]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
