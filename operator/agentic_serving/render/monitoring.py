"""PodMonitors for clusters that run the Prometheus operator."""

from collections.abc import Iterator

from agentic_serving import names
from agentic_serving.api.rules import Rule
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import PlannedPool
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.templates import fill

__all__ = ["pod_monitors"]

_RULE = Rule(
    id="monitoring/pod-monitor",
    reason="every pod is scraped by itself, under the stack's name and role; for Prometheus to get through, label its namespace "
    "agentic-serving.dev/monitoring=enabled",
    source="https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor",
)
#: Labels of pods that become labels of their metrics.
_TARGET_LABELS = (names.STACK_LABEL, names.COMPONENT_LABEL, names.ROLE_LABEL)


def pod_monitors(basis: Basis, pools: tuple[PlannedPool, ...]) -> Iterator[Manifest]:
    """None where the cluster does not know the kind."""
    if not basis.inputs.serves("monitoring.coreos.com", "v1", "PodMonitor"):
        return
    ports = {"engine": ["http"], "router": ["metrics", "envoy-ready"]}
    if basis.scheduling != "Off":
        ports["router"].append("scheduler-http")
    if any(planned.tier.sidecars for planned in pools):
        ports["engine"].append("lmcache-http")
    for component, port_names in ports.items():
        body = fill(
            "pod_monitor",
            metadata=basis.owner.metadata(basis.owner.child(component), component),
            selector=basis.owner.selector(component),
            target_labels=list(_TARGET_LABELS),
            endpoints=[{"port": port, "path": "/metrics", "interval": "15s"} for port in port_names],
        )
        yield Manifest(body=body, rules=(_RULE,))
