"""processnode.status: phase and conditions as a kubelet writes them."""

from typing import Any

import pytest

from tests.e2e.processnode.records import Backoff, ContainerRecord, Ended
from tests.e2e.processnode.status import PodFacts, Verdict, pod_status

NOW_S = 1_700_000_000.0
FACTS = PodFacts(host_ip="10.0.0.1", pod_ip="10.0.0.9", started_at_s=NOW_S - 60)


def pod(**spec: Any) -> dict[str, Any]:
    containers = {
        "initContainers": [{"name": "i", "image": "x"}],
        "containers": [{"name": "a", "image": "x"}],
    }
    return {"metadata": {"name": "p", "generation": 2}, "spec": {**containers, **spec}, "status": {}}


def records(*, initialized: bool = True, ready: bool = True) -> list[ContainerRecord]:
    init = ContainerRecord(name="i", role="init")
    init.on_started("i/0", NOW_S - 50, has_startup_probe=False, has_readiness_probe=False)
    main = ContainerRecord(name="a", role="main")
    if initialized:
        init.on_ended(Ended(exit_code=0, reason="Completed", started_at_s=0, finished_at_s=1), Backoff())
        main.on_started("a/0", NOW_S - 40, has_startup_probe=False, has_readiness_probe=not ready)
    return [init, main]


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


CASES: dict[str, tuple[dict[str, Any], list[ContainerRecord], Verdict | None, str, str]] = {
    "initializing": (pod(), records(initialized=False), None, "Pending", "False"),
    "running": (pod(), records(ready=False), None, "Running", "False"),
    "ready": (pod(), records(), None, "Running", "True"),
    "gate closed": (pod(readinessGates=[{"conditionType": "g"}]), records(), None, "Running", "False"),
    "evicted": (
        pod(),
        records(),
        Verdict(phase="Failed", reason="Evicted", disruption=True),
        "Failed",
        "False",
    ),
    "done": (pod(), records(), Verdict(phase="Succeeded"), "Succeeded", "False"),
}


@pytest.mark.parametrize("case", CASES)
def test_phase_and_readiness(case: str) -> None:
    obj, found, verdict, phase, ready = CASES[case]
    facts = PodFacts(
        host_ip=FACTS.host_ip, pod_ip=FACTS.pod_ip, started_at_s=FACTS.started_at_s, verdict=verdict
    )
    status = pod_status(obj, found, facts, NOW_S)
    assert (status["phase"], conditions(status)["Ready"]) == (phase, ready)
    assert ("DisruptionTarget" in conditions(status)) == (case == "evicted")


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    obj = pod()
    obj["status"] = pod_status(obj, records(), FACTS, NOW_S)
    later = pod_status(obj, records(), FACTS, NOW_S + 60)
    assert later == obj["status"]
    unready = pod_status(obj, records(ready=False), FACTS, NOW_S + 60)
    times = {c["type"]: c["lastTransitionTime"] for c in unready["conditions"]}
    assert times["Ready"] == "2023-11-14T22:14:20Z"  # NOW_S + 60
    assert times["Initialized"] == "2023-11-14T22:13:20Z"  # NOW_S


def test_a_crash_loop_shows_how_it_ended_last() -> None:
    main = ContainerRecord(name="a", role="main")
    main.on_started("a/0", NOW_S, has_startup_probe=False, has_readiness_probe=False)
    main.on_ended(Ended(exit_code=9, reason="Error", started_at_s=NOW_S, finished_at_s=NOW_S), Backoff())
    main.state, main.reason = "waiting", "CrashLoopBackOff"
    obj = pod(initContainers=[])
    status = pod_status(obj, [main], FACTS, NOW_S)
    (found,) = status["containerStatuses"]
    assert status["phase"] == "Running"
    assert found["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    assert found["lastState"]["terminated"]["exitCode"] == 9
