"""Picker and engine pod, behind a listener inside the same Envoy, so that a request can be given to the picker again.

A filter's refusal ends a request: none can be asked twice within one chain. So picker and pod stand behind a listener that
only Envoy itself can reach, and to the outer chain they are one upstream, which it may try again. It does so when this
listener says that no answer had begun: the picker found none of the pods that it was allowed, or the pod could not be
reached, or was gone before its first byte. The last is tried again only once: a prompt may be what its engine died of. What
an engine answered is never tried again.

- The scheduler's hint comes as a header, and a script makes it metadata again, which pickers read. On the second try it
  is the scheduler's other hint, all pods but the first; on the third there is none. So a picker that still counts on a dead
  pod does not choose it twice.
- A further try has an id of its own, as the picker's accounts go by it and may not have closed that of the last.
- HTTP/1.1 in between: each request has its connection, and shares neither windows nor resets with others.
- No time limits here: the outer chain has them, and its end of a request ends the request here.
"""

from typing import Any

from agentic_serving.render.releases import Headers

__all__ = [
    "ENGINE_CLUSTER",
    "HINT_HEADER",
    "PICKING",
    "POD_METADATA",
    "engine_cluster",
    "hint_filter",
    "internal_listeners",
    "picking_cluster",
    "picking_manager",
    "pod_filter",
    "retry_policy",
    "tries",
]

#: The listener's name; the cluster before it is called as the pods were when there was one chain, as routes may be newer than an Envoy.
PICKING = "picking"
ENGINE_CLUSTER = "engine"

#: Between the two chains only. Clients lose them at the edge, by their prefix.
HINT_HEADER = "x-agentic-serving-hint"
OTHERS_HEADER = "x-agentic-serving-hint-others"
AGAIN_HEADER = "x-agentic-serving-again"
POD_HEADER = "x-agentic-serving-pod"
PREFILL_HEADER = "x-agentic-serving-prefill-pod"
WHY_HEADER = "x-agentic-serving-why"
ATTEMPT_HEADER = "x-envoy-attempt-count"

#: Where the outer chain keeps who answered, and why nobody did: keys `pod`, `prefill_pod` and `why`.
POD_METADATA = "agentic-serving.pod"

#: Where the inner chain notes that this is not the first try.
TRIED = ("agentic-serving.try", "again")

#: More than the outer chain lets through, by the headers that it adds itself.
HEADERS_KB = 512
MAX_HEADERS = 200
#: Nobody is overloaded who was not reached.
BACK_OFF = "0.005s"
#: Bytes on their way between the two chains, for each request and direction.
BETWEEN_KB = 1024
#: Shorter than the listener's own, so that no request meets a connection that is being closed.
IDLE_S = 60

#: Where schedulers write their hint and pickers read it (gateway-api-inference-extension, docs/proposals/004-endpoint-picker-protocol).
SUBSET, SUBSET_KEY = "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset"
#: Beside it, for Envoy alone (`router/codec.py`).
OTHERS_KEY = "others"

_TYPE = "type.googleapis.com/envoy.extensions"
_OPTIONS = f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions"

_HINT_SCRIPT = f"""
function envoy_on_request(handle)
  local headers, own = handle:headers(), handle:streamInfo():dynamicMetadata()
  local attempt = headers:get("{ATTEMPT_HEADER}") or "1"
  if attempt ~= "1" then
    own:set("{TRIED[0]}", "{TRIED[1]}", true)
    headers:replace("x-request-id", (headers:get("x-request-id") or "") .. "-" .. attempt)
  end
  local named = {{["1"] = "{HINT_HEADER}", ["2"] = "{OTHERS_HEADER}"}}
  local hint = named[attempt] and headers:get(named[attempt])
  if hint == nil then return end
  local pods = {{}}
  for pod in string.gmatch(hint, '[^%[%]", ]+') do pods[#pods + 1] = pod end
  own:set("{SUBSET}", "{SUBSET_KEY}", pods)
end
"""


def internal_listeners() -> dict[str, Any]:
    """What allows listeners inside Envoy at all."""
    config = {
        "@type": f"{_TYPE}.bootstrap.internal_listener.v3.InternalListener",
        "buffer_size_kb": BETWEEN_KB,
    }
    return {"name": "envoy.bootstrap.internal_listener", "typed_config": config}


def hint_filter() -> dict[str, Any]:
    """Stands before the picker's."""
    config = {
        "@type": f"{_TYPE}.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": _HINT_SCRIPT},
    }
    return {"name": "hint", "typed_config": config}


def picking_manager(headers: Headers, filters: list[dict[str, Any]]) -> dict[str, Any]:
    """The listener's connection manager: what the outer chain has made of a request, it keeps."""
    return {
        "stat_prefix": PICKING,
        "stream_idle_timeout": "0s",
        "delayed_close_timeout": "0s",  # else an answer that broke off is told a second late
        "max_request_headers_kb": HEADERS_KB,
        "common_http_protocol_options": {
            "idle_timeout": "0s",
            "max_headers_count": MAX_HEADERS,
            "headers_with_underscores_action": "ALLOW",
        },
        "preserve_external_request_id": True,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": _local_answers(headers),
        "route_config": _routes(headers),
        "http_filters": filters,
    }


def _local_answers(headers: Headers) -> dict[str, Any]:
    """Which answers of Envoy and of the picker, never an engine's, ask for another try; the first that fits counts."""
    status = {"comparison": {"op": "EQ", "value": {"default_value": 503, "runtime_key": "unused"}}}
    unanswered = {"status_code_filter": status}
    broken = {"response_flag_filter": {"flags": ["UC", "UR"]}}
    tried = {"metadata_filter": {"matcher": _tried(), "match_if_key_not_found": False}}
    told = [_set(POD_HEADER, f"%REQ({headers.destination})%"), _set(WHY_HEADER, "%RESPONSE_CODE_DETAILS%")]
    again = [_set(AGAIN_HEADER, "1"), *told]
    everything = {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "unused"}}}
    return {
        "mappers": [
            {"filter": {"and_filter": {"filters": [unanswered, broken, tried]}}, "headers_to_add": told},
            {"filter": unanswered, "headers_to_add": again},
            {"filter": {"status_code_filter": everything}, "headers_to_add": told},
        ]
    }


def _tried() -> dict[str, Any]:
    return {"filter": TRIED[0], "path": [{"key": TRIED[1]}], "value": {"bool_match": True}}


def retry_policy() -> dict[str, Any]:
    """Of the outer chain's routes."""
    return {
        "retry_on": "retriable-headers",
        "num_retries": 2,
        "retry_back_off": {"base_interval": BACK_OFF},
        "retriable_headers": [{"name": AGAIN_HEADER, "present_match": True}],
    }


def tries(*, hinted: bool) -> dict[str, Any]:
    """Of the outer chain's virtual host: what the inner one is told of a try, and what the client is not."""
    found: dict[str, Any] = {
        "include_request_attempt_count": True,
        "response_headers_to_remove": [AGAIN_HEADER],
    }
    if hinted:
        hints = ((HINT_HEADER, SUBSET_KEY), (OTHERS_HEADER, OTHERS_KEY))
        found["request_headers_to_add"] = [
            _set(header, f"%DYNAMIC_METADATA({SUBSET}:{key})%") for header, key in hints
        ]
    return found


def _routes(headers: Headers) -> dict[str, Any]:
    """One: to the pod that the picker has named."""
    told = [_set(POD_HEADER, "%UPSTREAM_REMOTE_ADDRESS%")]
    if headers.prefiller:
        told.append(_set(PREFILL_HEADER, f"%REQ({headers.prefiller})%"))
    route = {"cluster": ENGINE_CLUSTER, "timeout": "0s", "idle_timeout": "0s"}
    return {
        "virtual_hosts": [
            {
                "name": "engine",
                "domains": ["*"],
                "request_headers_to_remove": [HINT_HEADER, OTHERS_HEADER, ATTEMPT_HEADER],
                "response_headers_to_add": told,
                "response_headers_to_remove": [AGAIN_HEADER, WHY_HEADER],
                "routes": [{"match": {"prefix": "/"}, "route": route}],
            }
        ]
    }


def pod_filter() -> dict[str, Any]:
    """In the outer chain: keeps who answered for the logs, and from the client."""
    kept = [
        {
            "header": header,
            "on_header_present": {"metadata_namespace": POD_METADATA, "key": key},
            "remove": True,
        }
        for header, key in ((POD_HEADER, "pod"), (PREFILL_HEADER, "prefill_pod"), (WHY_HEADER, "why"))
    ]
    config = {"@type": f"{_TYPE}.filters.http.header_to_metadata.v3.Config", "response_rules": kept}
    return {"name": "pod", "typed_config": config}


def picking_cluster(name: str) -> dict[str, Any]:
    """The listener as an upstream."""
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": PICKING}}}}
    options = {
        "@type": _OPTIONS,
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s", "max_headers_count": MAX_HEADERS},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
    }


def engine_cluster(destination_header: str) -> dict[str, Any]:
    """The pod that the picker names in a header; without the header there is no host, and so 503."""
    return {
        "name": ENGINE_CLUSTER,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": destination_header},
        "connect_timeout": "5s",
    }


def _set(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
