"""What of a rendered Envoy configuration is changed to run it on loopback, and to compare it with what we do not render."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentic_serving.render.envoy import ROUTES_FILE, to_yaml
from agentic_serving.render.envoy_picking import PICKING
from tests.e2e.localcluster.process import Process, Workplace
from tests.e2e.localcluster.tools import envoy_path

__all__ = ["by_session", "dial", "hashing", "relocated", "replace_file", "start_envoy"]


def dial(config: Mapping[str, Any], grpc_ports: Sequence[int], http_ports: Sequence[int]) -> None:
    """Let Envoy's clusters of schedulers be these: on loopback they have ports of their own instead of addresses."""
    named = {"scheduler": grpc_ports, "scheduler-http": http_ports}
    for cluster in config["static_resources"]["clusters"]:
        if ports := named.get(cluster["name"]):
            address = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
            cluster["type"] = "STATIC"
            cluster["load_assignment"]["endpoints"] = [
                {"lb_endpoints": [{"endpoint": {"address": one}} for one in address]}
            ]
            cluster.pop("dns_refresh_rate", None)
            cluster.pop("respect_dns_ttl", None)


def by_session(config: Mapping[str, Any], engines: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """No picker: the same cluster name stands for all engines, and a hash ring chooses."""
    ends = [
        {"endpoint": {"address": {"socket_address": {"address": a, "port_value": p}}}} for a, p in engines
    ]
    clusters = [
        one for one in config["static_resources"]["clusters"] if one["name"] not in ("picked", "picker")
    ]
    ring = {
        "name": "picked",
        "type": "STATIC",
        "lb_policy": "RING_HASH",
        "load_assignment": {"cluster_name": "picked", "endpoints": [{"lb_endpoints": ends}]},
    }
    listeners = [one for one in config["static_resources"]["listeners"] if one["name"] != PICKING]
    resources = {"listeners": listeners, "clusters": [*clusters, ring]}
    return {**config, "static_resources": resources}


def hashing(routes: Mapping[str, Any]) -> Mapping[str, Any]:
    named = ("x-claude-code-session-id", "session-id", "x-session-id")
    policy = [{"header": {"header_name": name}, "terminal": True} for name in named]
    for host in routes["resources"][0]["virtual_hosts"]:
        for route in host["routes"]:
            if "route" in route:
                route["route"]["hash_policy"] = policy
    return routes


def start_envoy(place: Workplace, name: str, config: Mapping[str, Any], routes: Mapping[str, Any]) -> Process:
    folder = place.folder / name
    folder.mkdir(exist_ok=True)
    file = folder / "envoy.yaml"
    placed = to_yaml(config).replace(str(ROUTES_FILE.parent), str(folder))
    file.write_text(placed)
    replace_file(folder / ROUTES_FILE.name, to_yaml(routes))
    options = ["--use-dynamic-base-id", "-l", "warn", "--concurrency", "1"]
    return place.start(name, [str(envoy_path()), "-c", str(file), *options])


def replace_file(file: Path, text: str) -> None:
    """By a rename, as kubelet does: readers see the old or the new one."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def relocated(value: Any, ports: Mapping[int, int]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {
            key: ports.get(child, child) if key == "port_value" else relocated(child, ports)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [relocated(child, ports) for child in value]
    return value
