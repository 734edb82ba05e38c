"""Field ownership as server-side apply keeps it, on plain dicts: what `fake.py` merges and prunes by. Pure.

A field set is a dict from paths to values; a path's steps are those of FieldsV1: `f:<name>`, `k:<json>` for a
list element by key, `v:<json>` for an element of a set. A list's element is itself a path, beside its fields.

Source: sigs.k8s.io/structured-merge-diff; the merge keys are those of the built-in OpenAPI schemas.
Not modelled: the schemas as a whole. Lists and maps not named here are merged by what is usual for their shape:
maps field by field, lists as one value.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

__all__ = ["FieldSet", "Path", "apply_fields", "flatten", "parse_fields", "to_fields_v1"]

Path = tuple[str, ...]
#: Any JSON value.
_Json = Any
FieldSet = dict[Path, _Json]

_BY_NAME = ("name",)
#: Merge keys of lists, by the field's name and the one above it ("" matches any).
_LIST_KEYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "conditions"): ("type",),
    ("", "containers"): _BY_NAME,
    ("", "env"): _BY_NAME,
    ("", "hostAliases"): ("ip",),
    ("", "initContainers"): _BY_NAME,
    ("", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("", "volumeMounts"): ("mountPath",),
    ("", "volumes"): _BY_NAME,
    ("containers", "ports"): ("containerPort", "protocol"),
    ("initContainers", "ports"): ("containerPort", "protocol"),
    ("metadata", "ownerReferences"): ("uid",),
    ("spec", "imagePullSecrets"): _BY_NAME,
    ("spec", "ports"): ("port", "protocol"),
    ("status", "capabilities"): ("intent", "role"),
}
_KEY_DEFAULTS = {"protocol": "TCP"}
_SETS = frozenset({("metadata", "finalizers")})
_ATOMIC_MAPS = frozenset(
    {
        "configMapKeyRef",
        "fieldRef",
        "labelSelector",
        "namespaceSelector",
        "nodeSelector",
        "ownerReferences",
        "podSelector",
        "resourceFieldRef",
        "secretKeyRef",
        "selector",
    }
)


def flatten(value: _Json, path: Path = ()) -> FieldSet:
    """Every field that a manifest's part states, with its value."""
    return dict(_flatten(value, path))


def _flatten(value: _Json, path: Path) -> Iterator[tuple[Path, _Json]]:
    if isinstance(value, dict) and (value or not path) and _names(path)[1] not in _ATOMIC_MAPS:
        for name, child in value.items():
            yield from _flatten(child, (*path, f"f:{name}"))
    elif isinstance(value, list) and _keys(path):
        for element in value:
            here = (*path, _element_step(element, path))
            yield here, None  # that it is there; its fields have the values
            yield from _flatten(element, here)
    elif isinstance(value, list) and _names(path) in _SETS:
        for element in value:
            yield (*path, f"v:{orjson.dumps(element).decode()}"), element
    else:
        yield path, value


def _names(path: Path) -> tuple[str, str]:
    """The last two field names of a path."""
    fields = [step[2:] for step in path if step.startswith("f:")]
    return (fields[-2] if len(fields) > 1 else "", fields[-1] if fields else "")


def _keys(path: Path) -> tuple[str, ...] | None:
    above, name = _names(path)
    return _LIST_KEYS.get((above, name)) or _LIST_KEYS.get(("", name))


def _element_step(element: Mapping[str, _Json], path: Path) -> str:
    keys = _keys(path) or ()
    return "k:" + orjson.dumps({k: element.get(k, _KEY_DEFAULTS.get(k, "")) for k in keys}).decode()


def to_fields_v1(paths: Iterable[Path]) -> dict[str, _Json]:
    """The nested form; a path that also has fields below it is marked by `.`."""
    chosen = set(paths)
    root: dict[str, _Json] = {}
    for path in sorted(chosen):
        node = root
        for depth, step in enumerate(path, start=1):
            node = node.setdefault(step, {})
            if depth < len(path) and path[:depth] in chosen:
                node["."] = {}
    return root


def parse_fields(node: Mapping[str, _Json], path: Path = ()) -> set[Path]:
    """The paths of a nested FieldsV1."""
    found = {path} if path and (not node or "." in node) else set()
    for step, child in node.items():
        if step != ".":
            found |= parse_fields(child, (*path, step))
    return found


def apply_fields(live: _Json, wanted: _Json, dropped: set[Path], kept: set[Path]) -> _Json:
    """`live` with `wanted` merged in and the fields at `dropped` taken out.

    Args:
        dropped: paths the applier owned and no longer states.
        kept: paths that somebody still states or owns; they and what holds them stay.
    """
    merged = _merge(live, wanted, ())
    # An element before its fields: it is found by some of them.
    for path in sorted(dropped - kept, key=len):
        if not any(other[: len(path)] == path for other in kept):
            _take_out(merged, path, kept)
    return merged


def _merge(live: _Json, wanted: _Json, path: Path) -> _Json:
    if isinstance(wanted, dict) and isinstance(live, dict) and _names(path)[1] not in _ATOMIC_MAPS:
        merged = {name: _merge(live.get(name), child, (*path, f"f:{name}")) for name, child in wanted.items()}
        return {**live, **merged}
    if isinstance(wanted, list) and isinstance(live, list) and _keys(path):
        return _merge_by_key(live, wanted, path)
    if isinstance(wanted, list) and isinstance(live, list) and _names(path) in _SETS:
        return live + [element for element in wanted if element not in live]
    return wanted


def _merge_by_key(live: list[_Json], wanted: list[_Json], path: Path) -> list[_Json]:
    """Ours in our order; others' elements behind, in theirs."""
    left = {_element_step(element, path): element for element in live}
    ours = []
    for element in wanted:
        step = _element_step(element, path)
        ours.append(_merge(left.pop(step, None), element, (*path, step)))
    return ours + list(left.values())


def _take_out(root: dict[str, _Json], path: Path, kept: set[Path]) -> None:
    """Remove what is at `path`, and the maps and lists that it leaves empty and nobody states."""
    holder = _at(root, path[:-1])
    step = path[-1]
    if isinstance(holder, dict):
        holder.pop(step[2:], None)
    elif isinstance(holder, list):
        holder[:] = [e for e in holder if not _is_step(e, step, path)]
    above = path[:-1]
    if holder in ({}, []) and above and above not in kept and above[-1].startswith("f:"):
        _take_out(root, above, kept)


def _at(root: _Json, path: Path) -> _Json:
    """What is at a path; None where nothing is."""
    node = root
    for depth, step in enumerate(path):
        if isinstance(node, dict):
            node = node.get(step[2:])
        elif isinstance(node, list):
            node = next((e for e in node if _is_step(e, step, path[: depth + 1])), None)
        else:
            return None
    return node


def _is_step(element: _Json, step: str, path: Path) -> bool:
    if step.startswith("v:"):
        return bool(element == orjson.loads(step[2:]))
    return isinstance(element, dict) and _element_step(element, path[:-1]) == step
