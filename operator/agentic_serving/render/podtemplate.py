"""The escape hatch: `spec.podTemplate`, checked by name against what the operator owns, then merged last.

What keeps a pod in agreement with picker, tiers and drain belongs to the operator: the generated containers'
image, command, arguments, variables, ports and mounts, the labels that select, the times that drain. All
else is the user's, and is checked by the API server.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentic_serving import names
from agentic_serving.api.findings import Finding
from agentic_serving.render.merge import merge_pod_template

__all__ = ["check_pod_template", "merge_pod_template"]

#: Keys of a pod's spec that the operator sets for a reason, and what to use instead.
_OWNED_SPEC: Mapping[str, str] = {
    "terminationGracePeriodSeconds": "it follows from spec.disruption.drainTimeout",
    "serviceAccountName": "pods run under the account that the operator made for them",
    "automountServiceAccountToken": "engines need no token",
    "enableServiceLinks": "a Service's name must not become an engine's setting",
    "restartPolicy": "a Deployment's pods always restart",
    "hostname": "replicas are interchangeable",
}
_OWNED_CONTAINER: Mapping[str, str] = {
    "image": "use spec.engine.image or spec.router.endpointPicker.image",
    "command": "the operator starts the program",
    "args": "use spec.engine.args",
    "lifecycle": "it drains the pod; use spec.disruption.drainTimeout",
    "envFrom": "name each variable under env, so that it can be checked",
}
#: Prefixes of label and annotation keys that select, or that others act upon.
_OWNED_KEYS = (f"{names.GROUP}/", "llm-d.ai/", "app.kubernetes.io/")
_NAMED_LISTS = ("containers", "initContainers", "volumes")


def check_pod_template(patch: Mapping[str, Any], base: Mapping[str, Any], path: str) -> tuple[Finding, ...]:
    """What in the patch touches something that the operator owns, or cannot be merged."""
    misshapen = tuple(_misshapen(patch, path))
    return misshapen or tuple(_owned(patch, base, path))


def _misshapen(patch: Mapping[str, Any], path: str) -> Iterator[Finding]:
    for key in patch:
        if key not in ("metadata", "spec"):
            yield _invalid(f"{path}.{key}", "a pod template has metadata and spec only")
    for key in ("metadata", "spec"):
        if not isinstance(patch.get(key, {}), Mapping):
            yield _invalid(f"{path}.{key}", "write an object here")
            return
    for key in ("labels", "annotations"):
        if not isinstance(patch.get("metadata", {}).get(key, {}), Mapping):
            yield _invalid(f"{path}.metadata.{key}", "write an object here")
    spec = patch.get("spec", {})
    for key in _NAMED_LISTS:
        yield from _unnamed(spec.get(key, []), f"{path}.spec.{key}", "name")
    for key in ("containers", "initContainers"):
        for i, container in enumerate(_entries(spec.get(key))):
            at = f"{path}.spec.{key}[{i}]"
            yield from _unnamed(container.get("env", []), f"{at}.env", "name")
            yield from _unnamed(container.get("volumeMounts", []), f"{at}.volumeMounts", "mountPath")
            yield from _unnamed(container.get("ports", []), f"{at}.ports", "containerPort")


def _unnamed(items: object, path: str, key: str) -> Iterator[Finding]:
    if not isinstance(items, list):
        yield _invalid(path, "write a list here")
        return
    for i, item in enumerate(items):
        if not isinstance(item, Mapping) or item.get(key) in (None, ""):
            yield _invalid(f"{path}[{i}]", f"write an object with {key}: entries are merged by it")


def _owned(patch: Mapping[str, Any], base: Mapping[str, Any], path: str) -> Iterator[Finding]:
    metadata, spec = patch.get("metadata", {}), patch.get("spec", {})
    for kind in ("labels", "annotations"):
        for key in metadata.get(kind, {}):
            if str(key).startswith(_OWNED_KEYS):
                yield _finding(
                    f"{path}.metadata.{kind}[{key}]", "the operator selects and reports pods by it"
                )
    for key in metadata:
        if key not in ("labels", "annotations"):
            yield _finding(f"{path}.metadata.{key}", "only labels and annotations can be added")
    for key, why in _OWNED_SPEC.items():
        if key in spec:
            yield _finding(f"{path}.spec.{key}", why)
    yield from _owned_volumes(spec, base["spec"], path)
    for key in ("containers", "initContainers"):
        generated = {container["name"]: container for container in base["spec"].get(key, [])}
        for i, container in enumerate(_entries(spec.get(key))):
            ours = generated.get(container["name"])
            if ours is not None:
                yield from _owned_container(container, ours, f"{path}.spec.{key}[{i}]")


def _owned_volumes(spec: Mapping[str, Any], base: Mapping[str, Any], path: str) -> Iterator[Finding]:
    ours = {volume["name"] for volume in base.get("volumes", [])}
    for i, volume in enumerate(_entries(spec.get("volumes"))):
        if volume["name"] in ours:
            yield _finding(
                f"{path}.spec.volumes[{i}]",
                f"the operator makes the volume {volume['name']}; use another name",
            )


def _owned_container(patch: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> Iterator[Finding]:
    for key, why in _OWNED_CONTAINER.items():
        if key in patch:
            yield _finding(f"{path}.{key}", why)
    for key, identity in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort")):
        taken = {str(item[identity]) for item in ours.get(key, [])}
        for i, item in enumerate(_entries(patch.get(key))):
            if str(item[identity]) in taken:
                yield _finding(f"{path}.{key}[{i}]", f"the operator sets {item[identity]} here")


def _entries(items: object) -> Iterable[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _finding(path: str, why: str) -> Finding:
    return Finding(path=path, reason="PodTemplateOwned", message=f"the operator owns this: {why}; remove it")


def _invalid(path: str, message: str) -> Finding:
    return Finding(path=path, reason="InvalidSpec", message=message)
