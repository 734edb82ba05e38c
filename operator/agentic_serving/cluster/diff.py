"""Would a server-side apply change anything? Answered without asking the API server. Pure.

At rest the operator writes nothing, so it must know that an apply is idle before it sends it. The live object
says what we own (`metadata.managedFields`, FieldsV1), and with it how each list is merged, so no schema is
needed here. Somebody else's change of a field that we own takes our ownership away; that is how drift shows
even where the value is inside a list or map that is replaced as a whole.

Source: KEP-555 (server-side apply), k8s.io/apimachinery `FieldsV1`; each rule was seen on kube-apiserver 1.36.
Not modelled: admission webhooks that change what we apply; there an apply is always thought necessary.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from agentic_serving import names
from agentic_serving.api.quantities import parse_bytes, parse_cpu
from agentic_serving.cluster.port import Manifest
from agentic_serving.errors import InvalidInput

__all__ = ["needs_apply"]

#: Any JSON value.
_Json = Any
#: A node of FieldsV1: `f:<name>` a field, `k:<json>` a list element by key, `v:<json>` a set's element.
_Fields = Mapping[str, Any]

#: Server-side apply tracks no ownership of these.
_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})
_UNTRACKED_METADATA = frozenset({"name", "namespace", "uid", "resourceVersion", "creationTimestamp"})
#: What the API server fills in inside lists and maps that are replaced as a whole (elsewhere defaults belong
#: to nobody and are never looked at). Sources: k8s.io/kubernetes `pkg/apis/core/v1/defaults.go`,
#: `pkg/apis/networking/v1/defaults.go`, `pkg/apis/rbac/v1/defaults.go`; the CRDs of the Gateway API and of the
#: Prometheus operator.
_DEFAULTS: dict[str, tuple[_Json, ...]] = {
    "action": ("replace",),
    "apiGroup": ("", "rbac.authorization.k8s.io"),
    "apiVersion": ("v1",),
    "divisor": ("0",),
    "expirationSeconds": (3600,),
    "group": ("", "gateway.networking.k8s.io"),
    "kind": ("Gateway", "Service"),
    "matches": ([{"path": {"type": "PathPrefix", "value": "/"}}],),
    "path": ({"type": "PathPrefix", "value": "/"},),
    "protocol": ("TCP",),
    "type": ("Exact", "PathPrefix"),
    "value": ("/",),
    "weight": (1,),
}
#: Maps replaced as a whole even where they are empty. An empty map of any other name claims nothing.
_ATOMIC_MAPS = frozenset({"labelSelector", "namespaceSelector", "nodeSelector", "podSelector", "selector"})
#: Values under these names are quantities, which the API server rewrites (`1024Mi` to `1Gi`, 1 to "1").
_QUANTITY_MAPS = frozenset({"limits", "requests"})
_QUANTITY_FIELDS = frozenset({"divisor", "sizeLimit", "storage"})

_Path = tuple[str, ...]


def needs_apply(
    desired: Manifest, live: Manifest, manager: str = names.FIELD_MANAGER, *, subresource: str = ""
) -> str | None:
    """The first reason why applying `desired` would change `live`, with its path; None if it would not.

    Args:
        live: as read, with its managedFields.
        subresource: `status` for what `apply_status` sends.
    """
    owned = _owned(live, desired["apiVersion"], manager, subresource)
    if owned is None:
        return f"{manager} has not applied this object yet"
    wanted = {key: value for key, value in desired.items() if key not in _IDENTITY}
    metadata = {k: v for k, v in desired["metadata"].items() if k not in _UNTRACKED_METADATA}
    if metadata and not subresource:  # a subresource's apply leaves metadata as it is
        wanted["metadata"] = metadata
    return next(_map_reasons(wanted, live, owned, ()), None)


def _owned(live: Manifest, api_version: str, manager: str, subresource: str) -> _Fields | None:
    for entry in live["metadata"].get("managedFields") or ():
        identity = (entry.get("manager"), entry.get("operation"), entry.get("apiVersion"))
        if identity == (manager, "Apply", api_version) and entry.get("subresource", "") == subresource:
            fields: _Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def _reasons(wanted: _Json, live: _Json, owned: _Fields, path: _Path) -> Iterator[str]:
    """Why applying `wanted` at an owned path would change `live`."""
    if not owned:
        if wanted == {} and path[-1] not in _ATOMIC_MAPS:
            return
        if not _same(wanted, live, path):
            yield f"{_dotted(path)}: is {_shown(live)}, should be {_shown(wanted)}"
    elif isinstance(wanted, dict):
        yield from _map_reasons(wanted, live if isinstance(live, dict) else {}, owned, path)
    elif isinstance(wanted, list):
        yield from _list_reasons(wanted, live if isinstance(live, list) else [], owned, path)
    else:
        yield f"{_dotted(path)}: should be {_shown(wanted)}"


def _map_reasons(
    wanted: Mapping[str, Any], live: Mapping[str, Any], owned: _Fields, path: _Path
) -> Iterator[str]:
    for key, value in wanted.items():
        child = owned.get(f"f:{key}")
        if child is not None:
            yield from _reasons(value, live.get(key), child, (*path, key))
        elif value not in ([], None):  # an empty list to merge into claims nothing
            yield f"{_dotted((*path, key))}: not ours yet, should be {_shown(value)}"
    for field in owned:
        if field.startswith("f:") and field[2:] not in wanted:
            yield f"{_dotted((*path, field[2:]))}: no longer wanted"


def _list_reasons(wanted: list[_Json], live: list[_Json], owned: _Fields, path: _Path) -> Iterator[str]:
    if any(key.startswith("v:") for key in owned):
        yield from _set_reasons(wanted, owned, path)
        return
    keys = {name: orjson.loads(name[2:]) for name in owned if name.startswith("k:")}
    at: list[int] = []
    for element in wanted:
        name = next((name for name, key in keys.items() if _has_key(element, key)), None)
        if name is None:
            yield f"{_dotted(path)}: {_shown(element)} is not ours yet"
            continue
        here = (*path[:-1], f"{path[-1]}[{_key_text(keys[name])}]")
        index = next((i for i, other in enumerate(live) if _has_key(other, keys[name])), None)
        if index is None:
            yield f"{_dotted(here)}: is gone"
            continue
        at.append(index)
        yield from _reasons(element, live[index], owned[name], here)
        del keys[name]
    for key in keys.values():
        yield f"{_dotted(path)}[{_key_text(key)}]: no longer wanted"
    if at != sorted(at):
        yield f"{_dotted(path)}: is in another order"


def _set_reasons(wanted: list[_Json], owned: _Fields, path: _Path) -> Iterator[str]:
    have = {orjson.dumps(orjson.loads(name[2:])) for name in owned if name.startswith("v:")}
    should = {orjson.dumps(element) for element in wanted}
    for element in sorted(should - have):
        yield f"{_dotted(path)}: {element.decode()} is not ours yet"
    for element in sorted(have - should):
        yield f"{_dotted(path)}: {element.decode()} is no longer wanted"


def _has_key(element: _Json, key: Mapping[str, Any]) -> bool:
    """Whether a list's element is the one that FieldsV1 names; a missing key field counts by its default."""
    return isinstance(element, dict) and all(
        element[name] == value if name in element else value in _DEFAULTS.get(name, ())
        for name, value in key.items()
    )


def _same(wanted: _Json, live: _Json, path: _Path) -> bool:
    """Equality of what is replaced as a whole, but for what the API server adds, drops or rewrites."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_same(value, live.get(key), (*path, key)) for key, value in wanted.items()) and all(
            value in _DEFAULTS.get(key, ()) or _is_zero(value)
            for key, value in live.items()
            if key not in wanted
        )
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(_same(*pair, path) for pair in zip(wanted, live, strict=True))
    if live is None:
        return _is_zero(wanted)
    if _is_quantity(path):
        return _same_quantity(wanted, live)
    return type(wanted) is type(live) and bool(wanted == live)


def _is_zero(value: _Json) -> bool:
    """What Go's `omitempty` leaves out of an answer."""
    return not value


def _is_quantity(path: _Path) -> bool:
    return path[-1] in _QUANTITY_FIELDS or (len(path) > 1 and path[-2] in _QUANTITY_MAPS)


def _same_quantity(wanted: _Json, live: _Json) -> bool:
    for parse in (parse_cpu, parse_bytes):  # the second for what overflows in thousandths
        try:
            return parse(str(wanted)) == parse(str(live))
        except InvalidInput:
            continue
    return bool(wanted == live)


def _dotted(path: _Path) -> str:
    return ".".join(path)


def _key_text(key: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in key.items())


def _shown(value: _Json) -> str:
    """A value in one short line."""
    text = "absent" if value is None else orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
