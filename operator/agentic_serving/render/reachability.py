"""Who may open a connection to whom, computed from rendered NetworkPolicies and pod labels alone.

It tells what a network plugin would enforce, not that one runs: on a cluster without such a plugin every
connection is allowed. Ingress only, as the rendered policies are; connections inside a pod are never filtered,
and neither are the kubelet's probes.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.render.manifest import Manifest
from agentic_serving.render.network import MONITORING_LABEL

__all__ = ["MONITORING", "NEIGHBOUR", "OUTSIDE", "Peer", "Reachability", "reachability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A pod that may open or take connections."""

    name: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]
    same_namespace: bool
    ports: tuple[int, ...] = ()  # that its containers declare


#: A pod of somebody else, in another namespace or in the stack's own.
OUTSIDE = Peer(name="outside", labels={}, namespace_labels={}, same_namespace=False)
NEIGHBOUR = Peer(name="neighbour", labels={}, namespace_labels={}, same_namespace=True)
#: A pod in a namespace that may read metrics.
MONITORING = Peer(
    name="monitoring", labels={}, namespace_labels={MONITORING_LABEL: "enabled"}, same_namespace=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """The pods of a plan and the policies that guard them."""

    pods: tuple[Peer, ...]
    policies: tuple[Mapping[str, Any], ...]

    def allowed(self, source: Peer, target: Peer, port: int) -> bool:
        """Whether `source` may connect to `port` of `target`. A pod that no policy selects is open."""
        guarding = [p for p in self.policies if _selects(p["spec"]["podSelector"], target.labels)]
        if not guarding:
            return True
        rules = [rule for policy in guarding for rule in policy["spec"].get("ingress", [])]
        return any(_admits(rule, source, port) for rule in rules)

    def pod(self, name: str) -> Peer:
        """The pods of the Deployment of that name.

        Raises:
            KeyError: there is none.
        """
        found = {pod.name: pod for pod in self.pods}
        return found[name]

    def matrix(self) -> Mapping[tuple[str, str], tuple[int, ...]]:
        """(source, target) → the declared ports that are open between them, sorted; pairs without any are left out."""
        table: dict[tuple[str, str], tuple[int, ...]] = {}
        for source in (OUTSIDE, NEIGHBOUR, MONITORING, *self.pods):
            for target in self.pods:
                ports = tuple(port for port in target.ports if self.allowed(source, target, port))
                if ports:
                    table[source.name, target.name] = ports
        return table


def reachability(manifests: Iterable[Manifest]) -> Reachability:
    """What the policies among these objects allow between the pods of the Deployments among them."""
    bodies = [manifest.body for manifest in manifests]
    return Reachability(
        pods=tuple(_pod(body) for body in bodies if body["kind"] == "Deployment"),
        policies=tuple(body for body in bodies if body["kind"] == "NetworkPolicy"),
    )


def _pod(deployment: Mapping[str, Any]) -> Peer:
    template = deployment["spec"]["template"]
    return Peer(
        name=deployment["metadata"]["name"],
        labels=template["metadata"]["labels"],
        namespace_labels={},
        same_namespace=True,
        ports=tuple(sorted(set(_ports(template["spec"])))),
    )


def _ports(spec: Mapping[str, Any]) -> Iterator[int]:
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for port in container.get("ports", []):
            yield port["containerPort"]


def _admits(rule: Mapping[str, Any], source: Peer, port: int) -> bool:
    ports, peers = rule.get("ports"), rule.get("from")
    if ports is not None and not any(p["port"] <= port <= p.get("endPort", p["port"]) for p in ports):
        return False
    return peers is None or any(_is_peer(peer, source) for peer in peers)


def _is_peer(peer: Mapping[str, Any], source: Peer) -> bool:
    namespaces = peer.get("namespaceSelector")
    if namespaces is None and not source.same_namespace:
        return False
    if namespaces is not None and not _selects(namespaces, source.namespace_labels):
        return False
    return "podSelector" not in peer or _selects(peer["podSelector"], source.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector of ours, which has matchLabels only, selects these labels."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
