"""What a namespace holds, without what the server adds: two runs that ended alike have equal snapshots."""

import json
from typing import Any

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from agentic_serving.render.emitted import EMITTED_KINDS
from tests.e2e.apiclient import ApiClient, Manifest

__all__ = ["CHILDREN", "OWN", "children", "condition", "first_difference", "is_current", "snapshot"]

OWN = (kinds.STACK, kinds.PROGRAM, kinds.POLICY)
CHILDREN: tuple[Kind, ...] = EMITTED_KINDS

#: The number of edits and rollouts is history: it depends on how many edits were seen at once.
_SERVER_METADATA = ("annotations", "creationTimestamp", "generation", "namespace", "resourceVersion", "uid")
#: Chosen by the API server for each Service anew.
_SERVER_SPEC = ("clusterIP", "clusterIPs")
_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE}"


def children(api: ApiClient, namespace: str) -> list[Manifest]:
    """Every object with the operator's label."""
    return [obj for kind in CHILDREN for obj in api.list(kind, namespace, selector=_SELECTOR)]


def snapshot(api: ApiClient, namespace: str) -> dict[str, Manifest]:
    """Children and the statuses of our own kinds, as `Kind/name`, comparable between namespaces."""
    owned = [obj for kind in OWN for obj in api.list(kind, namespace)]
    uids = {obj["metadata"]["uid"]: f"uid-of-{obj['metadata']['name']}" for obj in owned}
    found = {_title(obj): _essence(obj) for obj in children(api, namespace)}
    found |= {_title(obj): _own_essence(obj) for obj in owned}
    text = json.dumps(found).replace(namespace, "NAMESPACE")
    for uid, said in uids.items():
        text = text.replace(uid, said)
    result: dict[str, Manifest] = json.loads(text)
    return result


def condition(obj: Manifest, type_: str) -> Manifest:
    """A condition of that type; empty if there is none."""
    found = (c for c in obj.get("status", {}).get("conditions", []) if c["type"] == type_)
    return next(found, {})


def is_current(obj: Manifest, type_: str = "Ready", status: str = "True") -> bool:
    """Whether the condition has that status, and is about the present generation."""
    found = condition(obj, type_)
    seen = (found.get("status"), found.get("observedGeneration"))
    return seen == (status, obj["metadata"]["generation"])


def _title(obj: Manifest) -> str:
    return f"{obj['kind']}/{obj['metadata']['name']}"


def _essence(obj: Manifest) -> Manifest:
    """What the operator decides about a child, and which fields it owns."""
    metadata: dict[str, Any] = {k: v for k, v in obj["metadata"].items() if k not in _SERVER_METADATA}
    metadata["managedFields"] = [
        {k: v for k, v in entry.items() if k != "time"}
        for entry in metadata["managedFields"]
        if entry["manager"] == names.FIELD_MANAGER
    ]
    rest = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
    if obj["kind"] == kinds.SERVICE.kind:
        rest["spec"] = {k: v for k, v in rest["spec"].items() if k not in _SERVER_SPEC}
    return {**rest, "metadata": metadata}


def _own_essence(obj: Manifest) -> Manifest:
    """The spec and what was reported, without times."""
    status = dict(obj.get("status", {}))
    status["conditions"] = [
        {k: v for k, v in c.items() if k != "lastTransitionTime"} for c in status.get("conditions", [])
    ]
    return {"spec": obj["spec"], "status": status}


def first_difference(expected: object, found: object, path: str = "") -> str:
    """Where two snapshots part, in words; empty if they are equal."""
    if expected == found:
        return ""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found):
            said = first_difference(expected.get(key), found.get(key), f"{path}/{key}")
            if said:
                return said
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = zip(expected, found, strict=True)
        said = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(pairs))
        return next(filter(None, said))
    return f"{path}: expected {json.dumps(expected)[:300]}, found {json.dumps(found)[:300]}"
