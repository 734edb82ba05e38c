"""PodMonitor objects as Prometheus's own scrape configuration. Pure; a small part of what prometheus-operator does.

Fields it does not translate are refused by name, so that no test believes in them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["NotTranslated", "scrape_configs"]

_SPEC = {"selector", "podTargetLabels", "podMetricsEndpoints"}
_ENDPOINT = {"port", "path", "scheme", "interval", "scrapeTimeout", "params", "honorLabels"}
_POD = "__meta_kubernetes_pod_"

Json = dict[str, Any]


class NotTranslated(ValueError):
    """A PodMonitor uses a field that this does not know."""


def scrape_configs(
    monitors: Sequence[Mapping[str, Any]], discovery: Mapping[str, Any], *, interval: str | None = None
) -> list[Json]:
    """One scrape_config for each endpoint of each monitor, named as prometheus-operator names them.

    Args:
        discovery: what kubernetes_sd_config needs to reach the API server.
        interval: replaces the monitors' own, for tests that cannot wait.
    """
    return [config for monitor in monitors for config in _of(monitor, discovery, interval)]


def _of(monitor: Mapping[str, Any], discovery: Mapping[str, Any], interval: str | None) -> Iterator[Json]:
    metadata, spec = monitor["metadata"], monitor["spec"]
    where = f"PodMonitor {metadata['namespace']}/{metadata['name']}"
    _refuse_others(where, spec, _SPEC)
    for index, endpoint in enumerate(spec["podMetricsEndpoints"]):
        _refuse_others(f"{where} endpoint {index}", endpoint, _ENDPOINT)
        timing = {"scrape_interval": interval or endpoint.get("interval", "30s")}
        if "scrapeTimeout" in endpoint and interval is None:
            timing["scrape_timeout"] = endpoint["scrapeTimeout"]
        yield {
            "job_name": f"podMonitor/{metadata['namespace']}/{metadata['name']}/{index}",
            **timing,
            "honor_labels": endpoint.get("honorLabels", False),
            "metrics_path": endpoint.get("path", "/metrics"),
            "scheme": endpoint.get("scheme", "http"),
            "params": endpoint.get("params", {}),
            "kubernetes_sd_configs": [
                {"role": "pod", "namespaces": {"names": [metadata["namespace"]]}, **discovery}
            ],
            "relabel_configs": [
                *_selection(spec["selector"], endpoint["port"]),
                *_labels(metadata, spec, endpoint),
            ],
        }


def _selection(selector: Mapping[str, Any], port: str) -> Iterator[Json]:
    yield {"action": "drop", "source_labels": [f"{_POD}phase"], "regex": "(Failed|Succeeded)"}
    for label, value in selector.get("matchLabels", {}).items():
        yield _keep(f"{_POD}label_{_name(label)}", re.escape(value))
    for expression in selector.get("matchExpressions", ()):
        yield _expression(expression)
    yield _keep(f"{_POD}container_port_name", re.escape(port))


def _expression(expression: Mapping[str, Any]) -> Json:
    label, values = _name(expression["key"]), "|".join(map(re.escape, expression.get("values", ())))
    rules = {
        "In": _keep(f"{_POD}label_{label}", values),
        "NotIn": {**_keep(f"{_POD}label_{label}", values), "action": "drop"},
        "Exists": _keep(f"{_POD}labelpresent_{label}", "true"),
        "DoesNotExist": {**_keep(f"{_POD}labelpresent_{label}", "true"), "action": "drop"},
    }
    return rules[expression["operator"]]


def _keep(label: str, regex: str) -> Json:
    return {"action": "keep", "source_labels": [label], "regex": f"({regex})"}


def _labels(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], endpoint: Mapping[str, Any]
) -> Iterator[Json]:
    for source, target in (
        ("__meta_kubernetes_namespace", "namespace"),
        (f"{_POD}container_name", "container"),
        (f"{_POD}name", "pod"),
    ):
        yield {"source_labels": [source], "target_label": target}
    yield {"target_label": "job", "replacement": f"{metadata['namespace']}/{metadata['name']}"}
    for label in spec.get("podTargetLabels", ()):
        name = _name(label)
        yield {
            "source_labels": [f"{_POD}label_{name}"],
            "regex": "(.+)",
            "target_label": name,
            "replacement": "${1}",
        }
    yield {"target_label": "endpoint", "replacement": endpoint["port"]}


def _name(label: str) -> str:
    """A Kubernetes label as Prometheus spells it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _refuse_others(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    others = sorted(set(given) - known)
    if others:
        raise NotTranslated(f"{where}: {', '.join(others)} is not translated in {__name__}")
