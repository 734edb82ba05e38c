"""Checks 12 and 21: no write without a reason, few writes with one, and no flood of Events or log lines."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable

from agentic_serving.cluster import kinds
from tests.e2e.localcluster.calls import Call
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import Answer, Rule
from tests.e2e.operator_process import USER
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import World, metric, wait_until

Hire = Callable[..., World]


def populate(world: World) -> list[str]:
    """Some of everything; the result is the names of the stacks."""
    world.apply(policy("host"), program("coding", "chat", "split"), program("review", "chat"))
    # What a stack refers to comes first: a policy or program that comes later is a reason to write again.
    for kind, name in ((kinds.POLICY, "host"), (kinds.PROGRAM, "coding"), (kinds.PROGRAM, "review")):
        world.wait(kind, name, lambda o: "status" in o)
    world.apply(aggregated("chat", policy="host"), disaggregated("split"))
    for name in ("chat", "split"):
        world.ready(name)
    for name in ("coding", "review"):
        world.ready(name, kinds.PROGRAM)
    world.ready("host", kinds.POLICY)
    return ["chat", "split"]


def looks(proxy: FaultProxy) -> int:
    """How often the operator listed all stacks, to look at each of them again."""
    lists = proxy.seen(lambda c: c.verb == "list" and c.resource == kinds.STACK.plural and by_operator(c))
    return len(lists)


def by_operator(call: Call) -> bool:
    return call.user_agent.startswith("agentic-serving/")


def test_check_12_many_looks_at_what_is_right_write_nothing(hire: Hire, proxy: FaultProxy) -> None:
    world = hire(resync_s=1.0, discovery_s=0.5)
    populate(world)
    time.sleep(2)  # statuses that report progress wait for half a second
    mark, before, lookups = world.cluster.mark(), looks(proxy), reconciles(world)
    wait_until(lambda: looks(proxy) >= before + 5, what="five resyncs", timeout_s=60)
    wait_until(lambda: reconciles(world) >= lookups + 15, what="each object thrice", timeout_s=60)
    # Leases and Events too: there is no election here, and nothing to tell.
    in_team = [
        w for w in world.cluster.writes(since=mark, user=USER, aside=()) if w.namespace == world.namespace
    ]
    assert [str(w) for w in in_team] == []


def reconciles(world: World) -> float:
    return metric(world.operator.metrics(), "agentic_serving_reconcile_total", result="ok")


def test_check_12_to_ready_with_one_write_per_child_and_two_per_status(hire: Hire) -> None:
    world = hire(status_interval_s=60.0, coalesce_s=1.0)  # as in production
    mark = world.cluster.mark()
    stacks = populate(world)
    world.settled()
    audit = [w for w in world.cluster.writes(since=mark, user=USER) if w.namespace == world.namespace]
    children = Counter(f"{w.resource}/{w.name}" for w in audit if w.subresource != "status")
    assert {child: n for child, n in children.items() if n != 1} == {}
    assert len(children) == sum(len(world.children(name)) for name in stacks)
    statuses = Counter(w.name for w in audit if w.resource == kinds.STACK.plural)
    assert all(statuses[name] <= 2 for name in stacks), statuses


def test_check_21_what_fails_for_long_is_told_once(hire: Hire, proxy: FaultProxy) -> None:
    """A kind that is refused for good, while its siblings change again and again."""
    refused = Rule(
        match=lambda call: call.verb == "patch" and call.resource == "networkpolicies",
        action=Answer(code=403),
    )
    proxy.plan(refused)
    world = hire()
    world.apply(aggregated("chat", replicas=0))
    world.wait(kinds.STACK, "chat", lambda o: "Forbidden" in json.dumps(o.get("status", {})))
    seen, lines = len(proxy.seen(by_operator)), log_lines(world)
    for turn in range(20):
        world.merge(kinds.SERVICE, "chat", {"metadata": {"labels": {"touched": str(turn)}}})
        time.sleep(0.4)
    # 8 s: the retries of an exponential back-off, and at most one pass per 5 s that an event brings forward.
    assert len(proxy.seen(by_operator)) - seen < 60
    assert log_lines(world) - lines < 15
    told = Counter((e["type"], e["reason"]) for e in world.events("chat"))
    assert sum(told.values()) <= 3, told
    assert told["Warning", "Forbidden"] == 1


def log_lines(world: World) -> int:
    return len(world.operator.log.read_text().splitlines())


def test_metrics_have_bounded_labels(hire: Hire) -> None:
    """The number of series does not grow with the cluster, and no label names an object."""
    world = hire()
    world.apply(aggregated("only", replicas=0), program("coding", "only"), policy("host"))
    world.ready("only")
    world.settled()
    before = series(world)
    many = [aggregated(f"one-of-many-{i}", replicas=0) for i in range(6)]
    world.apply(*many)
    for obj in many:
        world.ready(obj["metadata"]["name"])
    world.settled()
    after = series(world)
    assert not re.search(r"one-of-many|only|" + world.namespace, "\n".join(after))
    # Outcomes that had not happened before may have now; objects are no outcomes.
    assert len(after) - len(before) < 25
    assert len(after) < 600


def series(world: World) -> set[str]:
    return {
        line.rsplit(" ", 1)[0] for line in world.operator.metrics().splitlines() if not line.startswith("#")
    }


NAMES = {
    "agentic_serving_reconcile_total",
    "agentic_serving_reconcile_seconds_count",
    "agentic_serving_workqueue_depth",
    "agentic_serving_workqueue_oldest_seconds",
    "agentic_serving_workqueue_retries_total",
    "agentic_serving_api_requests_total",
    "agentic_serving_api_request_seconds_count",
    "agentic_serving_watch_restarts_total",
    "agentic_serving_leader",
    "agentic_serving_condition",
    "agentic_serving_store_objects",
    "process_resident_memory_bytes",
}


def test_metrics_have_the_documented_names(hire: Hire) -> None:
    world = hire()
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    wait_until(lambda: {n.split("{")[0] for n in series(world)} >= NAMES, what=", ".join(sorted(NAMES)))
