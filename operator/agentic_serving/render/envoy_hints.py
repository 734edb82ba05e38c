"""The way of applications' hints to the program scheduler: one path on the same Service as their model calls.

A hint is no model call: the scheduler's filter does not see it, and the picker stands behind another cluster. Its program is found by the same conditions as a
call's, and told in the path, as the virtual host removes the header that tells it of calls. Without a scheduler the answer
is an immediate 503, which harms nothing.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["HINTS_PATH", "SCHEDULER_HTTP_PORT", "hints_cluster", "hints_route"]

HINTS_PATH = "/agentic-serving/v1/hints"
#: Metrics, pages and hints; `router/web.py`.
SCHEDULER_HTTP_PORT = 9005

_CLUSTER = "scheduler-http"
_SCHEDULER_PATH = "/v1/hints"
#: The answer is computed in memory; a scheduler that takes longer is in trouble.
_TIMEOUT = "2s"
_DISABLED = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def hints_route(program: str, match: Mapping[str, Any]) -> dict[str, Any]:
    """A program's hints. `match`: the conditions of one of its routes, whose path this one narrows."""
    conditions = {name: value for name, value in match.items() if name != "prefix"}
    return {
        "match": {"path": HINTS_PATH, **conditions},
        "route": {
            "cluster": _CLUSTER,
            "prefix_rewrite": f"{_SCHEDULER_PATH}/{quote(program, safe='')}",
            "timeout": _TIMEOUT,
        },
        "typed_per_filter_config": {"scheduler": _DISABLED},
    }


def hints_cluster(address: str) -> dict[str, Any]:
    """The scheduler's HTTP port in this pod; with an `address`, of the active one among all pods behind that DNS name."""
    host = {"socket_address": {"address": address or "127.0.0.1", "port_value": SCHEDULER_HTTP_PORT}}
    found: dict[str, Any] = {
        "name": _CLUSTER,
        "type": "STRICT_DNS" if address else "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": host}}]}],
        },
    }
    return {**found, **_active_only()} if address else found


def _active_only() -> dict[str, Any]:
    """One that stands by answers this GET with 503. Intervals as for the scheduler's gRPC port."""
    check = {
        "timeout": "1s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "no_traffic_healthy_interval": "1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "http_health_check": {"path": _SCHEDULER_PATH},
    }
    return {
        "dns_refresh_rate": "2s",
        "respect_dns_ttl": False,
        "health_checks": [check],
        "ignore_health_on_host_removal": True,
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
