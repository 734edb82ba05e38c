"""What of a pod's spec the process node carries out, what it accepts without effect and why; all else it refuses. Pure.

A field that is in neither table fails the pod: nothing that matters is silently ignored.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["CARRIED_OUT", "WITHOUT_EFFECT", "unsupported"]

Test = Callable[[Any], bool]


def _one_of(*allowed: object) -> Test:
    return lambda value: value in allowed


def _is_off(value: object) -> bool:
    return value is False


def _anything(value: object) -> bool:
    return True


def _below(root: str, *fields: str) -> dict[str, Test]:
    return {f"{root}.{field}": _anything for field in fields}


_HTTP = ("path", "port", "host", "scheme", "httpHeaders")
_TIMES = (
    "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold",
    "terminationGracePeriodSeconds",
)  # fmt: skip
_KEY = ("name", "key", "optional")
_ITEMS = ("items", "optional", "defaultMode")


def _probe(at: str) -> dict[str, Test]:
    http = _below(f"{at}.httpGet", *_HTTP)
    return (
        _below(at, *_TIMES, "exec.command", "tcpSocket.port", "tcpSocket.host", "grpc.port", "grpc.service")
        | http
    )


def _container(at: str) -> dict[str, Test]:
    probes: dict[str, Test] = {}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probes |= _probe(f"{at}.{name}")
    hook = _below(f"{at}.lifecycle.preStop", "exec.command", "sleep.seconds")
    hook |= _below(f"{at}.lifecycle.preStop.httpGet", *_HTTP)
    env = _below(f"{at}.env[]", "name", "value", "valueFrom.fieldRef", "valueFrom.resourceFieldRef")
    for source in ("configMapKeyRef", "secretKeyRef"):
        env |= _below(f"{at}.env[].valueFrom.{source}", *_KEY)
    for source in ("configMapRef", "secretRef"):
        env |= _below(f"{at}.envFrom[].{source}", "name", "optional")
    return (
        _below(at, "name", "image", "command", "args", "workingDir", "envFrom[].prefix", "terminationMessagePath",
               "terminationMessagePolicy")
        | env
        | probes
        | hook
        | _below(f"{at}.ports[]", "name", "containerPort", "protocol")
        | _below(f"{at}.volumeMounts[]", "name", "mountPath", "readOnly", "subPath", "subPathExpr")
        | _below(f"{at}.securityContext", "runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation",
                 "readOnlyRootFilesystem", "capabilities.add", "capabilities.drop")
        | {f"{at}.securityContext.privileged": _is_off}
    )  # fmt: skip


def _volume(at: str) -> dict[str, Test]:
    projected = f"{at}.projected.sources[]"
    return (
        _below(at, "name", "downwardAPI.items", "downwardAPI.defaultMode", "hostPath.path", "image.reference")
        | {f"{at}.emptyDir.medium": _one_of("", "Memory")}
        | _below(f"{at}.emptyDir", "sizeLimit")
        | _below(f"{at}.persistentVolumeClaim", "claimName", "readOnly")
        | _below(f"{at}.configMap", "name", *_ITEMS)
        | _below(f"{at}.secret", "secretName", *_ITEMS)
        | _below(f"{at}.projected", "defaultMode")
        | _below(f"{projected}.configMap", "name", "items", "optional")
        | _below(f"{projected}.secret", "name", "items", "optional")
        | _below(projected, "downwardAPI.items")
        | _below(f"{projected}.serviceAccountToken", "path", "audience", "expirationSeconds")
    )


#: Path of a field to the values that are carried out; `[]` is any item of a list.
CARRIED_OUT: Mapping[str, Test] = (
    _container("containers[]")
    | _container("initContainers[]")
    | {"initContainers[].restartPolicy": _one_of("Always")}
    | _volume("volumes[]")
    | dict.fromkeys(("nodeName", "hostname", "restartPolicy", "terminationGracePeriodSeconds", "activeDeadlineSeconds", "serviceAccountName", "enableServiceLinks", "readinessGates[].conditionType", "securityContext.runAsUser", "securityContext.runAsGroup", "securityContext.runAsNonRoot", "securityContext.fsGroup", "securityContext.supplementalGroups"), _anything)
    | {"hostNetwork": _is_off, "hostPID": _is_off, "hostIPC": _is_off}
    | {"shareProcessNamespace": _is_off}
    | {"dnsPolicy": _one_of("ClusterFirst", "Default")}
)  # fmt: skip

_SCHEDULER = "the scheduler carries it out before the pod is ours"
_ADMISSION = "the API server carries it out at admission"
_NO_PULL = "no image is pulled"

#: Fields that change nothing here, each with its reason.
WITHOUT_EFFECT: Mapping[str, str] = {
    **dict.fromkeys(
        ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "schedulerName",
         "schedulingGates", "priority", "priorityClassName", "preemptionPolicy", "overhead"), _SCHEDULER,
    ),
    **dict.fromkeys(("serviceAccount", "automountServiceAccountToken"), _ADMISSION),
    "imagePullSecrets": _NO_PULL,
    "setHostnameAsFQDN": "the cluster has no domain for pods",
    "securityContext.seccompProfile": "no filter is loaded: the programs are our own, and every call works that a filter would allow",
    "securityContext.fsGroupChangePolicy": "folders are made for the pod, so changing all of them costs nothing",
    "volumes[].image.pullPolicy": _NO_PULL,
    "volumes[].hostPath.type": "the path must be there, whatever the type says",
    **{
        f"{kind}[].{field}": reason
        for kind in ("containers", "initContainers")
        for field, reason in {
            "imagePullPolicy": _NO_PULL,
            "resources": "nothing is measured or limited: requests count for the scheduler and in resourceFieldRef only",
            "stdin": "nobody attaches",
            "stdinOnce": "nobody attaches",
            "tty": "nobody attaches",
            "securityContext.seccompProfile": "as for the pod's",
            "securityContext.procMount": "every container has a /proc of its own",
            "volumeMounts[].mountPropagation": "no container makes mounts that others are to see",
            "volumeMounts[].recursiveReadOnly": "volumes hold no mounts of their own",
        }.items()
    },
}  # fmt: skip


def unsupported(spec: Mapping[str, Any]) -> list[str]:
    """Paths of all fields in a pod's spec that would be ignored, with their value where only that is the reason."""
    return [*_walk(spec, "", "spec")]


def _walk(value: object, path: str, shown: str) -> Iterator[str]:
    """`path` is the field in the tables' words, `shown` with the indexes of this pod."""
    if path in WITHOUT_EFFECT:
        return
    if path in CARRIED_OUT:
        if not CARRIED_OUT[path](value):
            yield f"{shown}: {value}"
    elif isinstance(value, Mapping) and _leads_on(path):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}".lstrip("."), f"{shown}.{key}")
    elif isinstance(value, list) and _leads_on(path + "[]"):
        for i, inner in enumerate(value):
            yield from _walk(inner, f"{path}[]", f"{shown}[{i}]")
    else:
        yield shown


def _leads_on(path: str) -> bool:
    return path == "" or any(
        known.startswith((f"{path}.", f"{path}[")) for known in (*CARRIED_OUT, *WITHOUT_EFFECT)
    )
