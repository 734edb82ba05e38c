"""render.network through render.reachability: for each example, exactly who may reach whom on which port."""

import pytest

from agentic_serving.render.plan import Plan, render
from agentic_serving.render.reachability import MONITORING, NEIGHBOUR, OUTSIDE, Peer, reachability
from tests.unit.render.builders import DISAGGREGATED, EXAMPLE_NAMES, example_inputs, plan_of

#: From outside, from a neighbour in the namespace, and from a monitoring namespace: the same for every router.
ROUTER = {
    ("outside", "router"): (8080,),
    ("neighbour", "router"): (8080,),
    ("monitoring", "router"): (8080, 9005, 9090, 19001),
    ("router", "router"): (8080,),
    ("engine", "router"): (8080,),
}
ONE_POOL = {**ROUTER, ("router", "engine"): (8000,), ("monitoring", "engine"): (8000,)}
APART = {
    ("outside", "router"): (8080,),
    ("neighbour", "router"): (8080,),
    ("monitoring", "router"): (8080, 9005, 9090, 19001),
    ("router", "router"): (8080,),
    ("prefill", "router"): (8080,),
    ("decode", "router"): (8080,),
    ("router", "prefill"): (8000,),
    ("router", "decode"): (8000,),
    ("monitoring", "prefill"): (8000,),
    ("monitoring", "decode"): (8000, 8200),
    ("prefill", "prefill"): (5600, 8000),
    ("prefill", "decode"): (5600, 8000, 8200),
    ("decode", "prefill"): (5600, 8000),
    ("decode", "decode"): (5600, 8000, 8200),
}
LMCACHE = {**ONE_POOL, ("monitoring", "engine"): (8000, 8080)}
EXPECTED = {
    "amd-mi300x": ONE_POOL,
    "nvidia-h200-aggregated": ONE_POOL,
    "quickstart-cpu": LMCACHE,
    "nvidia-h100-disaggregated": APART,
    "lmcache-shared": {
        **LMCACHE,
        ("engine", "lmcache"): (9300,),
        ("lmcache", "engine"): (8080,),
        ("lmcache", "router"): (8080,),
    },
    "nvidia-b200-precise": {  # with two router pods
        **ONE_POOL,
        ("router", "router"): (8080, 9004, 9005),
        ("router", "engine"): (5557, 8000),
        ("router", "tokenizer"): (8000,),
        ("tokenizer", "router"): (8080,),
    },
}


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_exactly_these_connections_are_open(example: str) -> None:
    inputs = example_inputs(example)
    prefix = f"{inputs.stack.metadata.name}-"
    matrix = reachability(render(inputs).manifests).matrix()
    short = {(a.removeprefix(prefix), b.removeprefix(prefix)): ports for (a, b), ports in matrix.items()}
    assert short == EXPECTED[example]


@pytest.mark.parametrize("source", [OUTSIDE, NEIGHBOUR, MONITORING], ids=lambda peer: peer.name)
@pytest.mark.parametrize("port", [9002, 9003, 19000])
def test_nobody_reaches_the_pickers_own_ports(source: Peer, port: int) -> None:
    network = reachability(plan_of().manifests)
    assert not network.allowed(source, network.pod("chat-router"), port)


def test_kv_transfer_may_use_any_port_between_engines_of_one_stack_only() -> None:
    """UCX chooses its data ports at random."""
    mine = reachability(plan_of(base=DISAGGREGATED).manifests)
    other = reachability(plan_of(base=DISAGGREGATED, name="other").manifests)
    target = mine.pod("chat-decode")
    assert mine.allowed(mine.pod("chat-prefill"), target, 41234)
    assert not mine.allowed(other.pod("other-prefill"), target, 41234)
    assert not mine.allowed(other.pod("other-router"), target, 8000)


def test_every_pod_of_every_example_is_guarded() -> None:
    for example in EXAMPLE_NAMES:
        network = reachability(render(example_inputs(example)).manifests)
        for pod in network.pods:
            assert not network.allowed(OUTSIDE, pod, 1), f"{example}: {pod.name} is open"


def test_data_parallel_ranks_publish_on_ports_of_their_own() -> None:
    plan = precise({"topology": {"aggregated": {"parallelism": {"data": 4}}}})
    network = reachability(plan.manifests)
    router, engine = network.pod("chat-router"), network.pod("chat-engine")
    assert [p for p in range(5550, 5570) if network.allowed(router, engine, p)] == [5557, 5558, 5559, 5560]


@pytest.mark.parametrize(("replicas", "ports"), [(1, (8080,)), (2, (8080, 9004, 9005))])
def test_router_pods_reach_the_active_scheduler_only_where_there_are_several(
    replicas: int, ports: tuple[int, ...]
) -> None:
    network = reachability(plan_of({"router": {"replicas": replicas}}).manifests)
    router = network.pod("chat-router")
    assert tuple(port for port in router.ports if network.allowed(router, router, port)) == ports
    assert not network.allowed(OUTSIDE, router, 9004)


def precise(patch: dict[str, object]) -> Plan:
    return plan_of({"router": {"prefixRouting": "Precise"}, **patch})
