"""Envoy's HTTP filters and access log: program, scheduler, picker, usage; one JSON line per request on standard output."""

from typing import Any

from agentic_serving.render.envoy_first_token import first_token_filter
from agentic_serving.render.envoy_picking import POD_METADATA, hint_filter, pod_filter
from agentic_serving.render.envoy_routes import MUTATION_FILTER, PROGRAM_METADATA
from agentic_serving.render.envoy_scheduler import scheduler_filter
from agentic_serving.render.releases import Headers

__all__ = ["USAGE_METADATA", "http_filters", "picking_filters", "stdout_log"]

_TYPE = "type.googleapis.com/envoy.extensions"
USAGE_METADATA = "usage"

#: Where the answers of the three APIs carry token counts: (log key, path in the JSON). Later matches win, so a
#: stream's last event counts. Chat completions; Responses, plain and in `response.completed`; Messages, plain
#: and in `message_start` and `message_delta`.
USAGE_PATHS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("prompt_tokens", ("usage", "prompt_tokens")),
    ("prompt_tokens", ("usage", "input_tokens")),
    ("prompt_tokens", ("response", "usage", "input_tokens")),
    ("prompt_tokens", ("message", "usage", "input_tokens")),
    ("completion_tokens", ("usage", "completion_tokens")),
    ("completion_tokens", ("usage", "output_tokens")),
    ("completion_tokens", ("response", "usage", "output_tokens")),
    ("cached_tokens", ("usage", "prompt_tokens_details", "cached_tokens")),
    ("cached_tokens", ("usage", "input_tokens_details", "cached_tokens")),
    ("cached_tokens", ("usage", "cache_read_input_tokens")),
    ("cached_tokens", ("response", "usage", "input_tokens_details", "cached_tokens")),
    ("cached_tokens", ("message", "usage", "cache_read_input_tokens")),
)


def http_filters(*, scheduler: bool) -> list[dict[str, Any]]:
    """All filters of the outer chain before its router filter, in order."""
    first = [first_token_filter(), scheduler_filter()] if scheduler else []
    return [_program(), *first, pod_filter(), _usage_json(), _usage_sse()]


def picking_filters(timeout: str) -> list[dict[str, Any]]:
    """All filters of the inner chain before its router filter. `timeout`: how long the picker may queue a request."""
    return [hint_filter(), _picker(timeout)]


def _program() -> dict[str, Any]:
    """Does nothing by itself: each route says what it sets."""
    config = {"@type": f"{_TYPE}.filters.http.header_mutation.v3.HeaderMutation"}
    return {"name": MUTATION_FILTER, "typed_config": config}


def _picker(timeout: str) -> dict[str, Any]:
    config = {
        "@type": f"{_TYPE}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}},
        "failure_mode_allow": False,
        "message_timeout": timeout,
        "processing_mode": {
            "request_header_mode": "SEND",
            "request_body_mode": "FULL_DUPLEX_STREAMED",
            "request_trailer_mode": "SEND",
            "response_header_mode": "SEND",
            "response_body_mode": "FULL_DUPLEX_STREAMED",
            "response_trailer_mode": "SEND",
        },
        "metadata_options": {"forwarding_namespaces": {"untyped": ["envoy.lb.subset_hint"]}},
    }
    return {"name": "picker", "typed_config": config}


def _usage_json() -> dict[str, Any]:
    config = {
        "@type": f"{_TYPE}.filters.http.json_to_metadata.v3.JsonToMetadata",
        "response_rules": {"rules": _usage_rules()},
    }
    return {"name": "usage-json", "typed_config": config}


def _usage_sse() -> dict[str, Any]:
    parser = {
        "@type": f"{_TYPE}.content_parsers.json.v3.JsonContentParser",
        "rules": [{"rule": rule} for rule in _usage_rules()],
    }
    config = {
        "@type": f"{_TYPE}.filters.http.sse_to_metadata.v3.SseToMetadata",
        "response_rules": {"content_parser": {"name": "envoy.content_parsers.json", "typed_config": parser}},
    }
    return {"name": "usage-sse", "typed_config": config}


def _usage_rules() -> list[dict[str, Any]]:
    return [
        {
            "selectors": [{"key": part} for part in path],
            "on_present": {"metadata_namespace": USAGE_METADATA, "key": key},
        }
        for key, path in USAGE_PATHS
    ]


def stdout_log(headers: Headers) -> dict[str, Any]:
    """A line per request. The query string is left out: what clients put there is theirs."""
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(x-request-id)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:PATH)%",
        "code": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "duration_ms": "%DURATION%",
        "first_byte_ms": "%RESPONSE_DURATION%",
        "request_bytes": "%BYTES_RECEIVED%",
        "response_bytes": "%BYTES_SENT%",
        "program": f"%METADATA(ROUTE:{PROGRAM_METADATA}:program)%",
        "queue": f"%REQ({headers.fairness})%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "why": f"%DYNAMIC_METADATA({POD_METADATA}:why)%",
        "pod": f"%DYNAMIC_METADATA({POD_METADATA}:pod)%",
        **{key: f"%DYNAMIC_METADATA({USAGE_METADATA}:{key})%" for key, _ in USAGE_PATHS},
    }
    if headers.prefiller:
        fields["prefill_pod"] = f"%DYNAMIC_METADATA({POD_METADATA}:prefill_pod)%"
    if headers.dropped_reason:
        fields["dropped"] = f"%RESP({headers.dropped_reason})%"
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_TYPE}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": fields},
        },
    }
