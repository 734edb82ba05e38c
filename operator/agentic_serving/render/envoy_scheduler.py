"""The program scheduler in Envoy's chain: its filter, its cluster, and the access log that tells it what became of a call.

Every behaviour relied on was run on Envoy 1.40.0 (docs/router.md). Decisions that are not visible in the keys:

- The filter fails open: without an answer within MESSAGE_TIMEOUT_S a call goes on as if there were no scheduler.
- A held call's own answer may take longer, up to LONGEST_HOLD_S, and a scheduler that hangs could keep it for as
  long. So the connection is pinged: without an answer within PING_TIMEOUT_S it is closed, and its held calls go on.
- `response_trailer_mode: SEND` keeps the call's stream open until the response has ended, although no body is sent.
- Nothing here depends on an AgentProgram: programs change without a restart of Envoy, in the routes alone.
"""

from typing import Any

__all__ = [
    "ACTIVE_SERVICE",
    "LONGEST_HOLD_S",
    "SCHEDULER_PORT",
    "http2_keepalive",
    "scheduler_cluster",
    "scheduler_filter",
    "turns_log",
]

SCHEDULER_PORT = 9004
#: The service of the gRPC health protocol that only the one active scheduler of a stack reports as serving.
ACTIVE_SERVICE = "active"

MESSAGE_TIMEOUT_S = 1
#: The most that Envoy accepts for `max_message_timeout`. The scheduler holds no longer than the program's `maxHold`.
LONGEST_HOLD_S = 3600
PING_INTERVAL_S = 1
#: Longer than a busy machine takes to answer, as closing lets every held call go at once; the library answers
#: pings in threads of its own, whatever Python does.
PING_TIMEOUT_S = 4
#: New calls reach a new active scheduler after about this and the Lease's own time.
HEALTH_INTERVAL_S = 1

_TYPE = "type.googleapis.com/envoy.extensions"


def scheduler_filter() -> dict[str, Any]:
    """Sees headers and body of a request, and when its answer has ended.

    Not the answer's headers: while a filter waits there, Envoy 1.40 loses pieces that the picker's filter, in full-duplex
    mode, passes on (`tests/e2e/router/test_answers.py`). The first token is told by a script, status and pod by the log.
    """
    config = {
        "@type": f"{_TYPE}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "scheduler"}},
        "failure_mode_allow": True,
        "message_timeout": f"{MESSAGE_TIMEOUT_S}s",
        "max_message_timeout": f"{LONGEST_HOLD_S}s",
        "allow_mode_override": True,  # it asks not to be sent what it would not read
        "route_cache_action": "RETAIN",  # the program has been chosen; new headers must not choose another
        "processing_mode": {
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED_PARTIAL",  # BUFFERED would answer 413 beyond the buffer
            "request_trailer_mode": "SKIP",
            "response_header_mode": "SKIP",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SEND",
        },
        "metadata_options": {"receiving_namespaces": {"untyped": ["envoy.lb.subset_hint"]}},
    }
    return {"name": "scheduler", "typed_config": config}


def turns_log(headers: list[str]) -> dict[str, Any]:
    """The access log that goes to the scheduler, an entry as soon as a request has ended. `headers`: request headers in it."""
    config = {
        "@type": f"{_TYPE}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        "common_config": {
            "log_name": "turns",
            "grpc_service": {"envoy_grpc": {"cluster_name": "scheduler"}},
            "transport_api_version": "V3",
            "buffer_flush_interval": "0.2s",
            "buffer_size_bytes": 1,
        },
        "additional_request_headers_to_log": headers,
    }
    return {"name": "envoy.access_loggers.http_grpc", "typed_config": config}


def scheduler_cluster(address: str) -> dict[str, Any]:
    """The scheduler in this pod; with an `address`, the active one among all pods that the DNS name stands for."""
    host = {"socket_address": {"address": address or "127.0.0.1", "port_value": SCHEDULER_PORT}}
    found: dict[str, Any] = {
        "name": "scheduler",
        "type": "STRICT_DNS" if address else "STATIC",
        "load_assignment": {
            "cluster_name": "scheduler",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": host}}]}],
        },
    }
    return {**found, **_active_only()} if address else found


def http2_keepalive() -> dict[str, Any]:
    """Finds a scheduler that hangs while it holds calls."""
    return {"interval": f"{PING_INTERVAL_S}s", "timeout": f"{PING_TIMEOUT_S}s"}


def _active_only() -> dict[str, Any]:
    """No scheduler is better than one that is not active: without a healthy one, calls go on at once."""
    check = {
        "timeout": "1s",
        "interval": f"{HEALTH_INTERVAL_S}s",
        "no_traffic_interval": f"{HEALTH_INTERVAL_S}s",
        "no_traffic_healthy_interval": f"{HEALTH_INTERVAL_S}s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": ACTIVE_SERVICE},
    }
    return {
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": "2s",
        "respect_dns_ttl": False,
        "health_checks": [check],
        "ignore_health_on_host_removal": True,
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
