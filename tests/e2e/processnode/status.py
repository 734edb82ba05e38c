"""The status that a kubelet would write. Pure.

Source: pkg/kubelet/kubelet_pods.go (getPhase) and pkg/kubelet/status/generate.go (conditions).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .records import ContainerRecord, Ended

__all__ = ["PodFacts", "Verdict", "pod_status", "timestamp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A pod that has been ended from outside its containers, or that has nothing left to do."""

    phase: str  # Failed or Succeeded
    reason: str = ""
    message: str = ""
    disruption: bool = False  # the condition DisruptionTarget is set


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What the status says besides the containers."""

    host_ip: str
    pod_ip: str  # empty until there is a network
    started_at_s: float
    verdict: Verdict | None = None


def timestamp(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(
    pod: Mapping[str, Any], records: Sequence[ContainerRecord], facts: PodFacts, now_s: float
) -> dict[str, Any]:
    """The fields to merge into `status`; conditions of others stay."""
    images = {
        c["name"]: c["image"] for c in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    }
    main = [r for r in records if r.role == "main"]
    initial = [r for r in records if r.role != "main"]
    phase = _phase(initial, main, facts.verdict)
    status: dict[str, Any] = {
        "phase": phase,
        "observedGeneration": pod["metadata"].get("generation", 0),
        "startTime": timestamp(facts.started_at_s),
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "reason": facts.verdict.reason or None if facts.verdict else None,
        "message": facts.verdict.message or None if facts.verdict else None,
        "containerStatuses": [_container(r, images[r.name]) for r in main],
        "initContainerStatuses": [_container(r, images[r.name]) for r in initial],
        "conditions": _dated(pod, _conditions(pod, initial, main, facts, phase), now_s),
    }
    if facts.pod_ip:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    return status


def _phase(
    initial: Sequence[ContainerRecord], main: Sequence[ContainerRecord], verdict: Verdict | None
) -> str:
    if verdict is not None:
        return verdict.phase
    waiting = any(r.state == "waiting" and r.ended is None for r in main)
    return "Running" if _initialized(initial) and not waiting else "Pending"


def _initialized(initial: Iterable[ContainerRecord]) -> bool:
    return all(
        (r.ended is not None and r.ended.exit_code == 0) if r.role == "init" else r.initialized
        for r in initial
    )


def _conditions(
    pod: Mapping[str, Any], initial: Sequence[ContainerRecord], main: Sequence[ContainerRecord],
    facts: PodFacts, phase: str,
) -> list[dict[str, Any]]:  # fmt: skip
    over = phase in ("Succeeded", "Failed")
    completed = "PodCompleted" if phase == "Succeeded" else "PodFailed" if over else ""
    unready = [r.name for r in (*initial, *main) if r.role != "init" and not r.ready]
    unready_why = {"reason": completed or "ContainersNotReady"}
    if unready:
        unready_why["message"] = f"containers with unready status: [{' '.join(unready)}]"
    containers_ready = not unready and not over
    not_initialized = [r.name for r in initial if not _initialized([r])]
    found = [
        _condition("PodReadyToStartContainers", bool(facts.pod_ip) and not over, {}),
        _condition("Initialized", not not_initialized, {
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{' '.join(not_initialized)}]",
        }),
        _condition("ContainersReady", containers_ready, unready_why),
    ]  # fmt: skip
    closed = _closed_gates(pod)
    if containers_ready and closed:
        why = {"reason": "ReadinessGatesNotReady", "message": f"conditions not True: {', '.join(closed)}"}
        found.append(_condition("Ready", holds=False, why=why))
    else:
        found.append(_condition("Ready", containers_ready, unready_why))
    if facts.verdict is not None and facts.verdict.disruption:
        message = {"reason": "TerminationByKubelet", "message": facts.verdict.message}
        found.append({"type": "DisruptionTarget", "status": "True", **message})
    return found


def _closed_gates(pod: Mapping[str, Any]) -> list[str]:
    true = {c["type"] for c in pod.get("status", {}).get("conditions", ()) if c["status"] == "True"}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())]
    return [gate for gate in gates if gate not in true]


def _condition(type_: str, holds: bool, why: Mapping[str, str]) -> dict[str, Any]:
    if holds:
        return {"type": type_, "status": "True", "reason": None, "message": None}
    return {"type": type_, "status": "False", "reason": None, "message": None, **why}


def _dated(
    pod: Mapping[str, Any], conditions: Iterable[Mapping[str, Any]], now_s: float
) -> list[dict[str, Any]]:
    """With the time of the last change, which is kept where the status is as it was."""
    known = {c["type"]: c for c in pod.get("status", {}).get("conditions", ())}
    generation = pod["metadata"].get("generation", 0)
    result = []
    for condition in conditions:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        since = before["lastTransitionTime"] if same else timestamp(now_s)
        result.append({**condition, "lastTransitionTime": since, "observedGeneration": generation})
    return result


def _container(record: ContainerRecord, image: str) -> dict[str, Any]:
    waiting = record.state == "waiting"
    last = record.ended if waiting and record.ended is not None else record.previous
    status: dict[str, Any] = {
        "name": record.name,
        "image": image,
        "imageID": f"process://{image}",
        "ready": record.ready or (record.role == "init" and _initialized([record])),
        "started": record.started,
        "restartCount": record.restart_count,
        "state": _state(record),
        "lastState": {"terminated": _terminated(last)} if last is not None else {},
    }
    if record.key:
        status["containerID"] = f"process://{record.key}"
    return status


def _state(record: ContainerRecord) -> dict[str, Any]:
    if record.state == "running":
        return {"running": {"startedAt": timestamp(record.started_at_s)}}
    if record.state == "terminated" and record.ended is not None:
        return {"terminated": _terminated(record.ended)}
    waiting = {"reason": record.reason}
    return {"waiting": {**waiting, "message": record.message} if record.message else waiting}


def _terminated(ended: Ended) -> dict[str, Any]:
    found = {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": timestamp(ended.started_at_s),
        "finishedAt": timestamp(ended.finished_at_s),
        "containerID": f"process://{ended.key}",
    }
    return {**found, "message": ended.message} if ended.message else found
