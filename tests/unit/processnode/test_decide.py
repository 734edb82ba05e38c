"""processnode.decide: which containers start when, as the documentation of init containers and sidecars says."""

import pytest

from tests.e2e.processnode.decide import decide
from tests.e2e.processnode.records import Backoff, ContainerRecord, Ended, Role

NOW_S = 1000.0


def record(name: str, role: Role = "main") -> ContainerRecord:
    return ContainerRecord(name=name, role=role)


def running(name: str, role: Role = "main", *, started: bool = True) -> ContainerRecord:
    found = record(name, role)
    found.on_started(name, NOW_S - 10, has_startup_probe=not started, has_readiness_probe=False)
    return found


def ended(name: str, role: Role = "main", *, code: int = 0, again_in_s: float = 0) -> ContainerRecord:
    found = running(name, role)
    finished = Ended(exit_code=code, reason="", started_at_s=NOW_S - 10, finished_at_s=NOW_S - 1)
    found.on_ended(finished, Backoff())
    found.retry_at_s = NOW_S + again_in_s
    return found


CASES: dict[str, tuple[list[ContainerRecord], str, tuple[str, ...], str]] = {
    "all at once": ([record("a"), record("b")], "Always", ("a", "b"), ""),
    "init containers come first": ([record("i", "init"), record("a")], "Always", ("i",), ""),
    "a running init container is waited for": ([running("i", "init"), record("a")], "Always", (), ""),
    "one that succeeded lets the next go": ([ended("i", "init"), record("j", "init"), record("a")], "Always", ("j",), ""),
    "one that failed is repeated": ([ended("i", "init", code=1), record("a")], "Always", ("i",), ""),
    "or fails the pod": ([ended("i", "init", code=1), record("a")], "Never", (), "Failed"),
    "a sidecar is started and waited for": ([record("s", "sidecar"), record("a")], "Always", ("s",), ""),
    "until it has started": ([running("s", "sidecar", started=False), record("a")], "Always", (), ""),
    "then the next goes": ([running("s", "sidecar"), record("a")], "Always", ("a",), ""),
    "a sidecar is started again whatever the policy": ([ended("s", "sidecar", code=1), running("a")], "Never", ("s",), ""),
    "and holds nobody up then": ([ended("s", "sidecar", code=1), ended("a", code=1)], "Always", ("s", "a"), ""),
    "always means always": ([ended("a"), running("b")], "Always", ("a",), ""),
    "on failure means that": ([ended("a"), ended("b", code=1)], "OnFailure", ("b",), ""),
    "never means never": ([ended("a", code=1), running("b")], "Never", (), ""),
    "all succeeded": ([running("s", "sidecar"), ended("a"), ended("b")], "OnFailure", (), "Succeeded"),
    "one failed": ([ended("a"), ended("b", code=2)], "Never", (), "Failed"),
    "not before its time": ([ended("a", code=1, again_in_s=5), running("b")], "Always", (), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_started(case: str) -> None:
    records, policy, start, outcome = CASES[case]
    decision = decide(records, policy, NOW_S)
    assert (decision.start, decision.outcome) == (start, outcome)


def test_what_is_held_back_has_a_time() -> None:
    decision = decide([ended("a", code=1, again_in_s=5), ended("b", code=1, again_in_s=3)], "Always", NOW_S)
    assert decision.held_back == ("a", "b")
    assert decision.wake_at_s == NOW_S + 3


def test_the_delay_doubles_up_to_its_limit_and_is_forgotten_after_a_long_run() -> None:
    # kubelet: 10 s, 20 s, 40 s, ... 300 s; https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
    delays, delay_s = [], 0.0
    for _ in range(7):
        delay_s = Backoff().after(delay_s, ran_s=1)
        delays.append(delay_s)
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert Backoff().after(300, ran_s=601) == 10
