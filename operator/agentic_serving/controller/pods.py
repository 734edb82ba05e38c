"""Why pods are not ready, in the words of the scheduler and the kubelet.

Read only for a Deployment that has been waiting for a while, with one list per stack: what the cluster holds
thousands of is not watched.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from agentic_serving import names
from agentic_serving.api.conditions import Reason
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.observe import PodTrouble

__all__ = ["container_started", "container_trouble", "selector_of", "trouble_of"]

#: Reasons of a waiting container that are not simply "starting".
_FAILING = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
#: A condition's message holds 2,048 characters; several Deployments share it.
_MAX_CHARS = 400


def selector_of(stack: str) -> str:
    """The label selector of all pods of a stack."""
    return f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.STACK_LABEL}={names.label_value(stack)}"


def trouble_of(deployment: Manifest, pods: Iterable[Manifest]) -> PodTrouble | None:
    """The first pod of the Deployment with something to say, in the order of names; None if all just start."""
    wanted = ((deployment["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    for pod in sorted(pods, key=lambda p: str(p["metadata"]["name"])):
        labels = pod["metadata"].get("labels") or {}
        if wanted <= labels.items() and "deletionTimestamp" not in pod["metadata"]:
            found = _unschedulable(pod) or _failing(pod)
            if found is not None:
                return found
    return None


def container_trouble(pod: Manifest, name: str) -> str:
    """Why that container of a pod does not run; empty where it runs or just starts."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container.get("name") == name:
            return _said(container)[:_MAX_CHARS]
    return ""


def container_started(pod: Manifest, name: str) -> datetime | None:
    """When that container of a pod began to run, by its node's clock; None where it does not run."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container.get("name") == name:
            said = ((container.get("state") or {}).get("running") or {}).get("startedAt")
            return None if said is None else datetime.fromisoformat(said)
    return None


def _unschedulable(pod: Manifest) -> PodTrouble | None:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = f"pod {pod['metadata']['name']} fits on no node: {condition.get('message', '')}"
            return PodTrouble(reason=Reason.UNSCHEDULABLE, message=message[:_MAX_CHARS])
    return None


def _failing(pod: Manifest) -> PodTrouble | None:
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        said = _said(container)
        if said:
            message = f"container {container.get('name')} of pod {pod['metadata']['name']}: {said}"
            return PodTrouble(reason=Reason.PODS_FAILING, message=message[:_MAX_CHARS])
    return None


def _said(container: Mapping[str, Any]) -> str:
    """Why a container does not run, with how its last run ended; empty where it just starts."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") not in _FAILING:
        return ""
    last = (container.get("lastState") or {}).get("terminated") or {}
    ended = f"; last exit code {last['exitCode']} ({last.get('reason', '')})" if "exitCode" in last else ""
    said = last.get("message", "").strip()
    return f"{waiting['reason']}: {waiting.get('message', '')}{ended}{': ' + said if said else ''}"
