"""Check 14, the whole API server: it restarts or stays away while the operator works; and what the probes say."""

import time
from collections import Counter
from collections.abc import Callable

from agentic_serving.cluster import kinds
from tests.e2e.localcluster.calls import Call, matching
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import Hang, Reset, Rule
from tests.e2e.stacks import aggregated
from tests.e2e.world import World, wait_until

Hire = Callable[..., World]
STACKS = tuple(f"s{i}" for i in range(6))
_OUTAGE_S = 10.0


def everything(_: Call) -> bool:
    return True


def test_check_14_a_restart_of_the_api_server_is_survived(hire: Hire, proxy: FaultProxy) -> None:
    # It may be away for as long as a loaded machine needs to start it.
    world = hire(leader_election=True, lease_duration_s=120.0, renew_deadline_s=110.0)
    pid = world.operator.pid
    mark = world.cluster.mark()
    world.apply(*(aggregated(name, replicas=0) for name in STACKS))
    proxy.wait_for(matching(writes_only=True), count=20)
    world.cluster.restart_apiserver()
    for name in STACKS:
        world.applied(name, timeout_s=120)
    assert world.operator.pid == pid
    created = Counter(w for w in world.writes(mark) if "-> 201" in w)
    assert [w for w, n in created.items() if n > 1] == []
    # Watches are back: an edit needs no resync to be seen.
    world.delete(kinds.SERVICE, "s0")
    world.wait(kinds.SERVICE, "s0", bool, timeout_s=60)


def test_check_14_a_leader_without_an_api_server_ends_and_its_successor_goes_on(
    hire: Hire, proxy: FaultProxy
) -> None:
    """It cannot know any more whether it leads; the kubelet starts it again."""
    terms = {"lease_duration_s": 3.0, "renew_deadline_s": 2.0, "retry_period_s": 0.4}
    world = hire(leader_election=True, **terms)
    world.apply(*(aggregated(name, replicas=0) for name in STACKS))
    proxy.wait_for(matching(writes_only=True), count=20)
    world.cluster.stop_apiserver()
    try:
        assert world.operator.wait_exit() == 1
        world.operator.start()  # while there is still nobody to talk to
        time.sleep(_OUTAGE_S)
        assert world.operator.probe("healthz") == 200, "waiting for an API server is no reason to be killed"
    finally:
        world.cluster.start_apiserver()
    for name in STACKS:
        world.applied(name, timeout_s=120)


def test_liveness_tells_that_nothing_was_heard_and_recovers(hire: Hire, proxy: FaultProxy) -> None:
    """Watches that are open and silent, lists that fail: after three resyncs the process is not well."""
    world = hire(resync_s=1.0, discovery_s=0.3)
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    assert world.operator.probe("healthz") == 200
    proxy.plan(Rule(match=everything, action=Reset()))
    wait_until(lambda: world.operator.probe("healthz") == 503, what="a bad /healthz", timeout_s=30)
    proxy.plan()
    wait_until(lambda: world.operator.probe("healthz") == 200, what="a good /healthz", timeout_s=60)
    world.delete(kinds.SERVICE, "chat")
    world.wait(kinds.SERVICE, "chat", bool, timeout_s=60)


def test_probes_answer_while_every_worker_waits_for_the_api_server(hire: Hire, proxy: FaultProxy) -> None:
    proxy.plan(Rule(match=matching(verb="patch"), action=Hang()))
    world = hire(workers=2)
    world.apply(*(aggregated(name, replicas=0) for name in STACKS))
    proxy_calls = matching(verb="patch")
    wait_until(lambda: len(proxy.seen(proxy_calls)) >= 2, what="two calls under way")
    started_s = time.monotonic()
    assert world.operator.probe("healthz") == 200
    assert world.operator.probe("readyz") == 200
    assert "agentic_serving_workqueue_oldest_seconds" in world.operator.metrics()
    assert time.monotonic() - started_s < 5
