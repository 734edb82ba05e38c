"""Envoy's configuration: edge, programs, program scheduler, endpoint picker, usage, engine pod.

Built from dicts, never from text, as two documents: what Envoy starts with, and the routes, which it reads again
whenever their file changes; all that comes from an AgentProgram is in the routes.

Two chains of filters stand one behind the other (`envoy_picking` says why). Their order, and every behaviour relied on,
was run on Envoy 1.40.0 with real pickers. Decisions that are not visible in the keys:

- `headers_with_underscores_action` stays ALLOW: Codex before 0.131 names its session `session_id`. Nothing behind
  Envoy turns `_` into `-`, so no header that the edge removes can return by that spelling.
- The picker filter fails closed: in full-duplex mode a picker that is gone means 500 whatever `failure_mode_allow`
  says, and a request that no picker has seen must not reach a pod. Readiness of the pod includes the picker.
- Circuit breakers are out of the way: a queued request is an open stream to the picker, and Envoy's default of
  1,024 per cluster would answer 500 long before the picker's own limit.
- A request lives no longer than `request_timeout_s` and a little more, so that the picker's answer to a request
  that waited too long, which carries the reason, comes first. Where the scheduler holds turns, that time comes on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentic_serving import yamltext
from agentic_serving.api.matching import Ordering, ProgramRoute, order_programs
from agentic_serving.api.rules import Rule
from agentic_serving.render.envoy_filters import http_filters, picking_filters, stdout_log
from agentic_serving.render.envoy_hints import hints_cluster
from agentic_serving.render.envoy_picking import (
    PICKING,
    engine_cluster,
    internal_listeners,
    picking_cluster,
    picking_manager,
)
from agentic_serving.render.envoy_routes import (
    ROUTES_FILE,
    RouteLimits,
    edge_mutations,
    routes_document,
    routes_source,
)
from agentic_serving.render.envoy_rules import envoy_rules
from agentic_serving.render.envoy_scheduler import (
    SCHEDULER_PORT,
    http2_keepalive,
    scheduler_cluster,
    turns_log,
)
from agentic_serving.render.releases import PickerRelease

__all__ = [
    "ADMIN_PORT",
    "HTTP_PORT",
    "READY_PORT",
    "ROUTES_FILE",
    "SCHEDULER_PORT",
    "EnvoyConfig",
    "EnvoyInputs",
    "connection_age_s",
    "envoy_config",
    "to_yaml",
]

HTTP_PORT = 8080
READY_PORT = 19001  # GET /ready and /metrics; as in llm-d's standalone chart
ADMIN_PORT = 19000  # loopback only
PICKER_PORT = 9002

#: Agents' bodies are hundreds of KB, with images several MB. The picker's filter fails bodies that are larger than this.
BUFFER_BYTES = 64 * 1024 * 1024
STREAM_WINDOW_BYTES = 16 * 1024 * 1024
MAX_STREAMS = 100_000
MAX_CONNECTIONS = 50_000
#: RE2 instructions that one expression may have; Envoy's default of 100 refuses ordinary ones. RE2's memory limit remains.
REGEX_PROGRAM_SIZE = 1_000_000
#: The picker's 429 after its TTL comes before Envoy's 408.
GRACE_S = 5
#: A connection costs its client one round trip; once a minute is nothing.
MAX_CONNECTION_AGE_S = 60

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_EDGE = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_H2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_CONNECTION_LIMIT = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyInputs:
    """What Envoy's configuration is made from; programs in any order.

    Attributes:
        request_timeout_s: of a request, the picker's queue included; a hold of the scheduler comes on top.
        drain_s: from leaving the Service to SIGTERM.
        scheduler: whether the program scheduler is in the chain, and holds turns.
        scheduler_address: DNS name behind which the active one is looked for; empty: it is in this pod.
        max_hold_s: the longest `maxHold` of all programs.
    """

    release: PickerRelease
    programs: tuple[ProgramRoute, ...]
    request_timeout_s: int
    drain_s: int
    scheduler: Literal["Enforce", "Observe", "Off"] = "Off"
    scheduler_address: str = ""
    max_hold_s: int = 300

    @property
    def limits(self) -> RouteLimits:
        request_s = self.request_timeout_s + (self.max_hold_s if self.scheduler == "Enforce" else 0)
        return RouteLimits(request_s=request_s, stream_s=request_s + GRACE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """The bootstrap configuration and the routes, why they are so, and which program is tried when."""

    config: Mapping[str, Any]
    routes: Mapping[str, Any]
    rules: tuple[Rule, ...]
    ordering: Ordering


def envoy_config(inputs: EnvoyInputs) -> EnvoyConfig:
    """The configuration; programs that would break it are left out and named in `ordering.problems`."""
    ordering = order_programs(inputs.programs)
    address = inputs.scheduler_address
    scheduler = [] if inputs.scheduler == "Off" else [_scheduler(address), hints_cluster(address)]
    config = {
        "node": {"id": "router", "cluster": "router"},  # Envoy wants a name to read routes from a file
        "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
        "bootstrap_extensions": [internal_listeners()],
        "static_resources": {
            "listeners": [_http_listener(inputs), _ready_listener(), _picking_listener(inputs)],
            "clusters": [
                _open(picking_cluster("picked")),
                _open(engine_cluster(inputs.release.headers.destination)),
                *scheduler,
                _picker(),
                _admin(),
            ],
        },
        "layered_runtime": {
            "layers": [
                {"name": "fixed", "static_layer": {"re2.max_program_size.error_level": REGEX_PROGRAM_SIZE}}
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _CONNECTION_LIMIT,
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
    }
    routes = routes_document(
        ordering.programs,
        inputs.release.headers,
        cluster="picked",
        limits=inputs.limits,
        stamped=inputs.scheduler != "Off",
    )
    rules = envoy_rules(
        ordering,
        request_s=inputs.limits.request_s,
        connection_s=connection_age_s(inputs.drain_s),
        scheduler=inputs.scheduler,
    )
    return EnvoyConfig(config=config, routes=routes, rules=rules, ordering=ordering)


def connection_age_s(drain_s: int) -> int:
    """How old a client's connection may become, seconds: a quarter of the drain, so that none outlives it."""
    return max(1, min(MAX_CONNECTION_AGE_S, drain_s // 4))


def to_yaml(config: Mapping[str, Any]) -> str:
    """Text for a ConfigMap: equal configurations give equal text."""
    return yamltext.dump(config, width=4096)


def _http_listener(inputs: EnvoyInputs) -> dict[str, Any]:
    timeout = f"{inputs.request_timeout_s}s"
    manager = {
        "@type": _HCM,
        "stat_prefix": "http",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "stream_idle_timeout": timeout,
        "common_http_protocol_options": {
            "max_stream_duration": f"{inputs.request_timeout_s + GRACE_S}s",
            "max_connection_duration": f"{connection_age_s(inputs.drain_s)}s",
            "headers_with_underscores_action": "ALLOW",
        },
        "http1_safe_max_connection_duration": True,  # the last answer says `connection: close`; none is cut
        "http2_protocol_options": _http2_windows(),
        "early_header_mutation_extensions": [
            {"name": "edge", "typed_config": {"@type": _EDGE, "mutations": edge_mutations()}}
        ],
        "rds": routes_source(),
        "http_filters": [*http_filters(scheduler=inputs.scheduler != "Off"), _router_filter()],
        "access_log": [stdout_log(inputs.release.headers), *_turns_log(inputs)],
    }
    return _listener("http", HTTP_PORT, manager)


def _turns_log(inputs: EnvoyInputs) -> list[dict[str, Any]]:
    return [] if inputs.scheduler == "Off" else [turns_log(["x-request-id"])]


def _picking_listener(inputs: EnvoyInputs) -> dict[str, Any]:
    filters = [*picking_filters(f"{inputs.request_timeout_s}s"), _router_filter()]
    manager = {"@type": _HCM, **picking_manager(inputs.release.headers, filters)}
    # Connections within Envoy are not those that clients could exhaust.
    return {**_chain(PICKING, manager), "internal_listener": {}, "ignore_global_conn_limit": True}


def _ready_listener() -> dict[str, Any]:
    """Two of the admin interface's pages for the kubelet and Prometheus; all others answer 404."""
    pages = [
        {"match": {"path": "/ready"}, "route": {"cluster": "admin"}},
        {"match": {"path": "/metrics"}, "route": {"cluster": "admin", "prefix_rewrite": "/stats/prometheus"}},
    ]
    manager = {
        "@type": _HCM,
        "stat_prefix": "ready",
        "route_config": {"virtual_hosts": [{"name": "ready", "domains": ["*"], "routes": pages}]},
        "http_filters": [_router_filter()],
    }
    return _listener("ready", READY_PORT, manager)


def _listener(name: str, port: int, manager: dict[str, Any]) -> dict[str, Any]:
    address = _address("0.0.0.0", port)  # noqa: S104 - a pod's port, guarded by NetworkPolicies
    return {**_chain(name, manager), "address": address}


def _chain(name: str, manager: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _router_filter() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True},
    }


def _open(cluster: dict[str, Any]) -> dict[str, Any]:
    """Whole bodies pass, and each waiting call is one of its requests."""
    return {**cluster, "per_connection_buffer_limit_bytes": BUFFER_BYTES, "circuit_breakers": _no_limits()}


def _picker() -> dict[str, Any]:
    return {**_loopback("picker", PICKER_PORT), **_grpc(_http2_windows())}


def _scheduler(address: str) -> dict[str, Any]:
    options = {**_http2_windows(), "connection_keepalive": http2_keepalive()}
    return {**scheduler_cluster(address), **_grpc(options)}


def _grpc(options: dict[str, Any]) -> dict[str, Any]:
    """What both external processors' clusters are like: whole bodies pass, and each held or queued call is a stream."""
    h2 = {"@type": _H2, "explicit_http_config": {"http2_protocol_options": options}}
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2}
    return _open({"connect_timeout": "1s", "typed_extension_protocol_options": options})


def _admin() -> dict[str, Any]:
    return {**_loopback("admin", ADMIN_PORT), "connect_timeout": "1s"}


def _loopback(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address("127.0.0.1", port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _http2_windows() -> dict[str, Any]:
    return {
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": BUFFER_BYTES,
    }


def _no_limits() -> dict[str, Any]:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, MAX_STREAMS)]}
