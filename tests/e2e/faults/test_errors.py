"""Check 14: refusals, overload, lost answers and silence on each verb and kind; every stack gets there in the end.

Each stack meets one fault at one place, and all of them at once: the places are independent of each other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.localcluster.calls import Call
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import Action, Answer, Hang, Reset, Rule
from tests.e2e.stacks import aggregated, policy
from tests.e2e.world import World, metric

Hire = Callable[..., World]

#: Where a stack can meet a fault while it is made: verb, resource, subresource. The stack is named after it.
PLACES = {
    "account": ("patch", "serviceaccounts", ""),
    "binding": ("patch", "rolebindings", ""),
    "config": ("patch", "configmaps", ""),
    "service": ("patch", "services", ""),
    "network": ("patch", "networkpolicies", ""),
    "pool": ("patch", "inferencepools", ""),
    "workload": ("patch", "deployments", ""),
    "monitor": ("patch", "podmonitors", ""),
    "status": ("patch", "agenticservingstacks", "status"),
    "told": ("create", "events", ""),
}
_FAULTS: dict[str, Action] = {
    "409": Answer(code=409),
    "422": Answer(code=422),
    "429": Answer(code=429, retry_after_s=2),
    "500": Answer(code=500),
    "503": Answer(code=503),
    "timeout-504": Answer(code=504, when="after"),
    "reset-before": Reset(),
    "reset-after": Reset(when="after"),
}
#: Calls of the operator for one stack without any fault: some 16 writes, and what it asks before a retry.
_CALLS_PER_STACK = 60


@dataclass(frozen=True)
class At:
    """A matcher: this place, of this stack."""

    place: tuple[str, str, str]
    stack: str

    def __call__(self, call: Call) -> bool:
        named = call.name.split("-")[0].split(".")[0] == self.stack or call.resource == "events"
        return (call.verb, call.resource, call.subresource) == self.place and named


@dataclass(frozen=True)
class Asked:
    """A matcher: this verb on a resource, by the operator's own client."""

    verb: str

    def __call__(self, call: Call) -> bool:
        return ours(call) and call.verb == self.verb and bool(call.resource)


def ours(call: Call) -> bool:
    return call.user_agent.startswith("agentic-serving/")


@pytest.mark.parametrize("fault", _FAULTS)
def test_check_14_a_fault_anywhere_is_survived_without_a_storm(
    hire: Hire, proxy: FaultProxy, fault: str
) -> None:
    rules = [Rule(match=At(place, name), nth={0}, action=_FAULTS[fault]) for name, place in PLACES.items()]
    proxy.plan(*rules)
    world = hire()
    proxy.forget()
    mark = world.cluster.mark()
    world.apply(*(aggregated(name, replicas=0) for name in PLACES))
    for name in PLACES:
        world.ready(name, timeout_s=90)
    injected = {str(one.call.resource) for one in proxy.seen() if one.injected}
    assert injected >= {resource for _, resource, _ in PLACES.values()}
    assert len(proxy.seen(ours)) < _CALLS_PER_STACK * len(PLACES)
    # What was carried out although its answer was lost is not done over.
    created = [w for w in world.writes(mark) if "-> 201" in w]
    assert len(created) == len(set(created))


@pytest.mark.parametrize("code", [409, 429, 500, 503])
def test_check_14_reads_and_deletions_are_tried_again(hire: Hire, proxy: FaultProxy, code: int) -> None:
    """Starting (list), what a lost child was (get), and removing what is not wanted any more (delete)."""
    fault = Answer(code=code, retry_after_s=1 if code == 429 else None)
    proxy.plan(*(Rule(match=Asked(verb), nth={0}, action=fault) for verb in ("get", "list", "delete")))
    world = hire()
    world.apply(policy("host", backend="LMCache"), aggregated("chat", replicas=0, policy="host"))
    world.ready("chat")
    world.merge(kinds.STACK, "chat", {"spec": {"router": {"prefixRouting": "Precise"}}})
    world.ready("chat")
    assert any(c.startswith("Deployment/chat-tokenizer") for c in world.children("chat"))
    world.merge(kinds.STACK, "chat", {"spec": {"router": {"prefixRouting": "Approximate"}}})
    world.ready("chat")
    world.settled()
    assert not any("tokenizer" in c for c in world.children("chat"))
    assert {one.call.verb for one in proxy.seen() if one.injected} == {"get", "list", "delete"}


def test_check_14_retry_after_is_heeded(hire: Hire, proxy: FaultProxy) -> None:
    at = At(PLACES["workload"], "chat")
    proxy.plan(Rule(match=at, nth={0}, action=Answer(code=429, retry_after_s=4)))
    world = hire()
    world.apply(aggregated("chat", replicas=0))
    world.ready("chat")
    refused, again = proxy.seen(at)[:2]
    assert again.at_s - refused.at_s >= 4


def test_check_14_silence_holds_up_one_stack_and_nobody_else(hire: Hire, proxy: FaultProxy) -> None:
    """A call that is never answered ends after 30 s; the others do not wait for it."""
    proxy.plan(Rule(match=At(PLACES["workload"], "stuck"), nth={0}, action=Hang()))
    world = hire(workers=2)
    world.apply(aggregated("stuck", replicas=0))
    proxy.wait_for(lambda call: call.resource == "networkpolicies" and call.name.startswith("stuck"), count=2)
    started_s = time.monotonic()
    for name in ("one", "two", "three"):
        world.apply(aggregated(name, replicas=0))
    for name in ("one", "two", "three"):
        world.ready(name)
    assert time.monotonic() - started_s < 25
    world.ready("stuck", timeout_s=90)
    assert metric(world.operator.metrics(), "agentic_serving_api_requests_total", code="unavailable") == 1
