"""NetworkPolicies as nftables rules in the namespace of the cluster's node: who may open connections to which pod.

Only ingress. A policy with egress rules is refused by name. As in a cluster, the node reaches its pods whatever the
policies say, and so does the host, from where the process node's probes come; a pod always reaches itself; connections
that are open stay open.
"""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.localcluster.ranges import Ranges

from .follow import Objects
from .netns import NetworkFailed, enter
from .selectors import selects

__all__ = ["PATHS", "NotTranslated", "PolicyRules", "World", "ruleset"]

_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_PODS = "/api/v1/pods"
_NAMESPACES = "/api/v1/namespaces"
PATHS = (_POLICIES, _PODS, _NAMESPACES)

_TABLE = "inet agentic-policies"
_TIMEOUT_S = 30.0

Json = Mapping[str, Any]


class NotTranslated(ValueError):
    """A NetworkPolicy asks for what this does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the rules are made from."""

    policies: tuple[Json, ...]
    pods: tuple[Json, ...]
    namespaces: Mapping[str, Mapping[str, str]]  # labels by name

    def addresses(self, namespace: str, peer: Json) -> list[str]:
        """Pods that a peer of a policy in `namespace` means."""
        selector, spaces = peer.get("podSelector", {}), peer.get("namespaceSelector")
        return [
            str(pod["status"]["podIP"])
            for pod in self.pods
            if selects(selector, _labels(pod)) and self._in_space(_namespace(pod), namespace, spaces)
        ]

    def _in_space(self, found: str, own: str, selector: Json | None) -> bool:
        return found == own if selector is None else selects(selector, self.namespaces.get(found, {}))


def ruleset(world: World, ranges: Ranges) -> str:
    """Input for `nft -f`, which replaces the whole table at once or not at all.

    Raises:
        NotTranslated: a policy has egress rules.
    """
    chains = dict(_chains(world))
    jumps = "".join(f"    ip daddr {address} jump to-{address}\n" for address in chains)
    bodies = "".join(f"  chain to-{address} {{\n{body}  }}\n" for address, body in chains.items())
    return (
        f"table {_TABLE} {{}}\ndelete table {_TABLE}\ntable {_TABLE} {{\n{bodies}"
        # After kube-proxy's own rules: the address is that of a pod, no longer that of a Service.
        "  chain forward {\n    type filter hook forward priority filter + 10; policy accept;\n"
        "    ct state established,related accept\n"
        f"    ip saddr {{ {ranges.node}, {ranges.host} }} accept\n{jumps}  }}\n}}\n"
    )


def _chains(world: World) -> Iterator[tuple[str, str]]:
    """Rules by the address of each pod that some policy selects."""
    for pod in world.pods:
        chosen = [p for p in world.policies if _namespace(p) == _namespace(pod) and _isolates(p, pod)]
        if chosen:
            own = str(pod["status"]["podIP"])
            rules = [f"ip saddr {own} accept", *_rules(world, chosen, pod), "drop"]
            yield own, "".join(f"    {rule}\n" for rule in dict.fromkeys(rules))


def _isolates(policy: Json, pod: Json) -> bool:
    spec = policy["spec"]
    if "Egress" in spec.get("policyTypes", ()) or "egress" in spec:
        metadata = policy["metadata"]
        raise NotTranslated(
            f"NetworkPolicy {metadata['namespace']}/{metadata['name']}: egress is not translated in {__name__}"
        )
    return selects(spec.get("podSelector", {}), _labels(pod))


def _rules(world: World, policies: Iterable[Json], pod: Json) -> Iterator[str]:
    for policy in policies:
        for rule in policy["spec"].get("ingress", ()):
            for source in _sources(world, _namespace(policy), rule):
                for port in _ports(rule, pod):
                    yield " ".join(part for part in (source, port, "accept") if part)


def _sources(world: World, namespace: str, rule: Json) -> Iterator[str]:
    """Conditions on who calls; an empty one is everybody."""
    if not rule.get("from"):
        yield ""
        return
    for peer in rule["from"]:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            without = f" ip saddr != {{ {', '.join(block['except'])} }}" if block.get("except") else ""
            yield f"ip saddr {block['cidr']}{without}"
        elif found := world.addresses(namespace, peer):
            yield f"ip saddr {{ {', '.join(sorted(found))} }}"


def _ports(rule: Json, pod: Json) -> Iterator[str]:
    """Conditions on the pod's port; an empty one is all of them."""
    if not rule.get("ports"):
        yield ""
        return
    for wanted in rule["ports"]:
        protocol = str(wanted.get("protocol", "TCP")).lower()
        if "port" not in wanted:
            yield f"meta l4proto {protocol}"
        elif "endPort" in wanted:
            yield f"{protocol} dport {wanted['port']}-{wanted['endPort']}"
        else:
            yield from (f"{protocol} dport {number}" for number in _numbers(wanted["port"], pod))


def _numbers(port: int | str, pod: Json) -> Iterator[int]:
    if isinstance(port, int):
        yield port
        return
    spec = pod["spec"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        yield from (p["containerPort"] for p in container.get("ports", ()) if p.get("name") == port)


class PolicyRules:
    """Keeps the rules of one node as a `Follower` of `PATHS` sees the policies, pods and namespaces.

    Attribute: `problem`, why the rules are not those of the policies now; empty if they are.
    """

    def __init__(self, netns: Path, ranges: Ranges) -> None:
        self._netns = netns
        self._ranges = ranges
        self._text = ""
        self.problem = ""

    def changed(self, collections: Mapping[str, Objects]) -> None:
        """For the follower."""
        pods = (pod for _, pod in sorted(collections[_PODS].items()))
        spaces = {name: _labels(item) for (_, name), item in collections[_NAMESPACES].items()}
        world = World(
            policies=tuple(policy for _, policy in sorted(collections[_POLICIES].items())),
            pods=tuple(pod for pod in pods if _runs(pod)),
            namespaces=spaces,
        )
        try:
            text = ruleset(world, self._ranges)
        except NotTranslated as error:
            self.problem = str(error)
            return
        if text != self._text:
            self._apply(text)
            self._text = text
        self.problem = ""

    def _apply(self, text: str) -> None:
        done = subprocess.run(
            enter(self._netns, ["nft", "-f", "-"]), input=text, check=False, capture_output=True, text=True,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise NetworkFailed(
                f"nft refused the rules of the NetworkPolicies: {done.stderr.strip()}\n{text}"
            )


def _runs(pod: Json) -> bool:
    status = pod.get("status", {})
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def _namespace(item: Json) -> str:
    return str(item["metadata"]["namespace"])


def _labels(item: Json) -> Mapping[str, str]:
    labels: Mapping[str, str] = item["metadata"].get("labels", {})
    return labels
