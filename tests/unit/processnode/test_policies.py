"""processnode.policies: who may call whom, for policies as Kubernetes defines them."""

from typing import Any

import pytest

from tests.e2e.localcluster.ranges import Ranges
from tests.e2e.processnode.policies import NotTranslated, World, ruleset

RANGES = Ranges.numbered(0)
ENGINE, ROUTER, OTHER = "198.18.0.3", "198.18.0.4", "198.18.0.5"
TCP_8000 = {"protocol": "TCP", "port": 8000}
FROM_ROUTER = {"podSelector": {"matchLabels": {"app": "router"}}}
FROM_MONITORING = {"namespaceSelector": {"matchLabels": {"monitoring": "enabled"}}}


def _pod(app: str, address: str, namespace: str = "agents") -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8000}]
    return {
        "metadata": {"name": app, "namespace": namespace, "labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "ports": ports}]},
        "status": {"podIP": address},
    }


def _policy(namespace: str = "agents", **spec: Any) -> dict[str, Any]:
    selector = {"podSelector": {"matchLabels": {"app": "engine"}}, "policyTypes": ["Ingress"]}
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": {**selector, **spec}}


def _engine_rules(*policies: dict[str, Any]) -> list[str] | None:
    """The rules for connections to the engine's pod, in order; None if it is open to all."""
    world = World(
        policies=policies,
        pods=(_pod("engine", ENGINE), _pod("router", ROUTER), _pod("router", OTHER, "watchers")),
        namespaces={"agents": {}, "watchers": {"monitoring": "enabled"}},
    )
    text = ruleset(world, RANGES)
    if f"chain to-{ENGINE} {{" not in text:
        return None
    assert f"ip daddr {ENGINE} jump to-{ENGINE}" in text
    body = text.partition(f"chain to-{ENGINE} {{")[2].partition("}\n  ")[0]
    rules = [line.strip() for line in body.splitlines() if line.strip() not in ("", "}")]
    assert (rules[0], rules[-1]) == (f"ip saddr {ENGINE} accept", "drop"), (
        "itself first, nobody else at the end"
    )
    return rules[1:-1]


@pytest.mark.parametrize(
    ("ingress", "rules"),
    [
        ([], []),
        ([{}], ["accept"]),
        ([{"from": [FROM_ROUTER]}], [f"ip saddr {{ {ROUTER} }} accept"]),
        ([{"from": [FROM_MONITORING]}], [f"ip saddr {{ {OTHER} }} accept"]),
        ([{"from": [{"namespaceSelector": {}}]}], [f"ip saddr {{ {ENGINE}, {ROUTER}, {OTHER} }} accept"]),
        ([{"from": [{**FROM_ROUTER, **FROM_MONITORING}]}], [f"ip saddr {{ {OTHER} }} accept"]),
        ([{"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}], []),
        ([{"ports": [TCP_8000]}], ["tcp dport 8000 accept"]),
        ([{"ports": [{"port": "http"}]}], ["tcp dport 8000 accept"]),
        ([{"ports": [{"port": "unknown"}]}], []),
        ([{"ports": [{**TCP_8000, "endPort": 8007}]}], ["tcp dport 8000-8007 accept"]),
        ([{"ports": [{"protocol": "UDP"}]}], ["meta l4proto udp accept"]),
        (
            [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [TCP_8000]}],
            ["ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 8000 accept"],
        ),
        (
            [{"from": [FROM_ROUTER], "ports": [TCP_8000]}, {"from": [FROM_MONITORING]}],
            [f"ip saddr {{ {ROUTER} }} tcp dport 8000 accept", f"ip saddr {{ {OTHER} }} accept"],
        ),
    ],
    ids=[
        "nobody", "everybody", "pods", "namespaces", "all namespaces", "pods in namespaces", "no such pods", "port",
        "port by name", "no such name", "range", "protocol", "block", "two rules",
    ],
)  # fmt: skip
def test_ingress_rules(ingress: list[dict[str, Any]], rules: list[str]) -> None:
    assert _engine_rules(_policy(ingress=ingress)) == rules


@pytest.mark.parametrize(
    "policies",
    [(), (_policy("watchers"),), (_policy(podSelector={"matchLabels": {"app": "router"}}),)],
    ids=["no policy", "another namespace's", "for other pods"],
)
def test_pods_that_no_policy_selects_are_open(policies: tuple[dict[str, Any], ...]) -> None:
    assert _engine_rules(*policies) is None


def test_policies_add_up() -> None:
    both = _engine_rules(_policy(ingress=[]), _policy(ingress=[{"ports": [TCP_8000]}]))
    assert both == ["tcp dport 8000 accept"]


def test_the_node_and_the_host_are_always_let_in() -> None:
    text = ruleset(
        World(policies=(_policy(ingress=[]),), pods=(_pod("engine", ENGINE),), namespaces={}), RANGES
    )
    assert text.index(f"ip saddr {{ {RANGES.node}, {RANGES.host} }} accept") < text.index(f"jump to-{ENGINE}")


@pytest.mark.parametrize("spec", [{"policyTypes": ["Egress"]}, {"egress": []}], ids=["type", "rules"])
def test_egress_is_refused_by_name(spec: dict[str, Any]) -> None:
    with pytest.raises(NotTranslated, match="NetworkPolicy agents/p: egress"):
        _engine_rules(_policy(**spec))
