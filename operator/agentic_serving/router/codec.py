"""Envoy's external processing protocol and the router's words. Pure: messages in, values or bytes out.

Answers are made as bytes: most are one of three that never change, and are then serialized once.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.protobuf.duration_pb2 import Duration

from agentic_serving.router.words import Call, Go, Refuse

__all__ = [
    "CONTINUE_HEADERS",
    "CONTINUE_TRAILERS",
    "LONGEST_OVERRIDE_S",
    "Shown",
    "call_of",
    "error_body",
    "go",
    "header_map",
    "hold",
    "refuse",
]

#: The most that Envoy 1.40 accepts (`max_message_timeout`).
LONGEST_OVERRIDE_S = 3600

SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SUBSET_KEY = "x-gateway-destination-endpoint-subset"
#: Beside it, for Envoy alone: the subset of a second try.
OTHERS_KEY = "others"

CONTINUE_HEADERS: bytes = pb.ProcessingResponse(request_headers=pb.HeadersResponse()).SerializeToString()
CONTINUE_BODY: bytes = pb.ProcessingResponse(request_body=pb.BodyResponse()).SerializeToString()
CONTINUE_TRAILERS: bytes = pb.ProcessingResponse(response_trailers=pb.TrailersResponse()).SerializeToString()

#: As rendered (`render/envoy_scheduler.py`), but for the body.
_WITHOUT_BODY = ProcessingMode(
    request_header_mode=ProcessingMode.SEND,
    request_body_mode=ProcessingMode.NONE,
    request_trailer_mode=ProcessingMode.SKIP,
    response_header_mode=ProcessingMode.SKIP,
    response_body_mode=ProcessingMode.NONE,
    response_trailer_mode=ProcessingMode.SEND,
)

#: What Envoy lets through in a name and a value; it would fail the request for anything else.
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t -~]*")

#: `error.type` by status, as the two APIs name them (docs.anthropic.com/en/api/errors; platform.openai.com error codes).
_TYPES = {400: "invalid_request_error", 409: "invalid_request_error", 429: "rate_limit_error"}


def header_map(headers: Iterable[HeaderValue]) -> dict[str, str]:
    """By lower-case name; of a repeated header the first, as Envoy's own `%REQ()%` has it. Bytes are read as Latin-1."""
    found: dict[str, str] = {}
    for one in headers:
        found.setdefault(one.key, one.raw_value.decode("latin-1") if one.raw_value else one.value)
    return found


def call_of(headers: Mapping[str, str], body: bytes, *, complete: bool) -> Call:
    """A request; without `x-request-id` its id is empty."""
    return Call(
        id=headers.get("x-request-id", ""),
        method=headers.get(":method", ""),
        path=headers.get(":path", ""),
        headers=headers,
        body=body,
        complete=complete,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How a request was shown, which the answer must match.

    Attributes:
        with_body: the answer is one to the message of its body; else to that of its headers.
        complete: as in `Call`. What was not shown whole is not replaced.
        more: a body follows that we do not want to see.
    """

    with_body: bool
    complete: bool = True
    more: bool = False


def go(word: Go, shown: Shown) -> bytes:
    """Lets a request go on."""
    body = word.body if shown.with_body and shown.complete else None
    if not word.endpoints and not word.headers and body is None and not shown.more:
        return CONTINUE_BODY if shown.with_body else CONTINUE_HEADERS
    common = pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=_options(word.headers)))
    if body is not None:
        common.body_mutation.body = body
    answer = (
        pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
        if shown.with_body
        else pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common))
    )
    if word.endpoints:
        hints = {SUBSET_KEY: word.endpoints, OTHERS_KEY: word.others}
        answer.dynamic_metadata.update(
            {SUBSET_NAMESPACE: {key: list(pods) for key, pods in hints.items() if pods}}
        )
    if shown.more:
        answer.mode_override.CopyFrom(_WITHOUT_BODY)
    return bytes(answer.SerializeToString())


def hold(seconds: float) -> bytes:
    """Asks Envoy for more time for the answer to its last message; it grants this once for each."""
    whole = min(LONGEST_OVERRIDE_S, max(1, math.ceil(seconds)))
    return bytes(pb.ProcessingResponse(override_message_timeout=Duration(seconds=whole)).SerializeToString())


def refuse(word: Refuse, path: str) -> bytes:
    """Answers the request in the format of the API at this path."""
    headers = {"content-type": "application/json"}
    if word.retry_after_s > 0:
        headers["retry-after"] = str(word.retry_after_s)
    answer = pb.ImmediateResponse(
        status=HttpStatus(code=word.status),
        headers=pb.HeaderMutation(set_headers=_options(headers)),
        body=error_body(word, path),
        details="program_scheduler_refused",
    )
    return bytes(pb.ProcessingResponse(immediate_response=answer).SerializeToString())


def error_body(word: Refuse, path: str) -> bytes:
    """The error object that the SDKs of the two families read."""
    kind = _TYPES.get(word.status, "api_error")
    error: dict[str, Any] = {"type": kind, "message": word.message}
    if "/messages" in path.partition("?")[0]:
        return orjson.dumps({"type": "error", "error": error})
    code = "rate_limit_exceeded" if word.status == 429 else None
    return orjson.dumps({"error": {**error, "param": None, "code": code}})


def _options(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    """What may not stand in a header is left out: a request goes on without a hint rather than fail."""
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode("ascii")),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
        if _NAME.fullmatch(name) and _VALUE.fullmatch(value)
    ]
