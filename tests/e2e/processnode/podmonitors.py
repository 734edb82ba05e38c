"""PodMonitor objects and pods as what Prometheus scrapes. Pure; a small part of what prometheus-operator does.

Fields it does not translate are refused by name, so that no test believes in them. The pods are found here and not by
Prometheus, as Debian builds it without Kubernetes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .selectors import selects

__all__ = ["Job", "NotTranslated", "jobs"]

_SPEC = {"selector", "podTargetLabels", "podMetricsEndpoints"}
_ENDPOINT = {"port", "path", "scheme", "interval", "params", "honorLabels"}

Json = dict[str, Any]


class NotTranslated(ValueError):
    """A PodMonitor uses a field that this does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One endpoint of one monitor, named as prometheus-operator names it."""

    name: str
    interval: str
    scrape: Mapping[str, Any]  # further keys of its scrape_config
    targets: list[Json] = field(default_factory=list)  # as file_sd_config reads them


def jobs(monitors: Iterable[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> list[Job]:
    """What to scrape now.

    Raises:
        NotTranslated: a monitor asks for what this does not do.
    """
    return [job for monitor in monitors for job in _of(monitor, pods)]


def _of(monitor: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Iterator[Job]:
    metadata, spec = monitor["metadata"], monitor["spec"]
    where = f"PodMonitor {metadata['namespace']}/{metadata['name']}"
    _refuse_others(where, spec, _SPEC)
    chosen = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == metadata["namespace"]
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in ("Failed", "Succeeded")
        and selects(spec["selector"], pod["metadata"].get("labels", {}))
    ]
    for index, endpoint in enumerate(spec["podMetricsEndpoints"]):
        _refuse_others(f"{where} endpoint {index}", endpoint, _ENDPOINT)
        yield Job(
            name=f"podMonitor/{metadata['namespace']}/{metadata['name']}/{index}",
            interval=endpoint.get("interval", "30s"),
            scrape={
                "honor_labels": endpoint.get("honorLabels", False),
                "metrics_path": endpoint.get("path", "/metrics"),
                "scheme": endpoint.get("scheme", "http"),
                "params": endpoint.get("params", {}),
            },
            targets=[target for pod in chosen for target in _targets(monitor, endpoint["port"], pod)],
        )


def _targets(monitor: Mapping[str, Any], port: str, pod: Mapping[str, Any]) -> Iterator[Json]:
    metadata, spec = pod["metadata"], pod["spec"]
    labels = metadata.get("labels", {})
    wanted = monitor["spec"].get("podTargetLabels", ())
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        for offered in container.get("ports", ()):
            if offered.get("name") != port:
                continue
            yield {
                "targets": [f"{pod['status']['podIP']}:{offered['containerPort']}"],
                "labels": {
                    "job": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
                    "namespace": metadata["namespace"],
                    "pod": metadata["name"],
                    "container": container["name"],
                    "endpoint": port,
                    **{_name(key): labels[key] for key in wanted if key in labels},
                },
            }


def _name(label: str) -> str:
    """A Kubernetes label as Prometheus spells it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _refuse_others(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    others = sorted(set(given) - known)
    if others:
        raise NotTranslated(f"{where}: {', '.join(others)} is not translated in {__name__}")
