"""A patch over a pod template: maps are merged, lists of named things by name, other lists replaced.

The subset of Kubernetes' strategic merge that pods need, without its directives: nothing that is there
can be deleted, only overridden or added to. Null in the patch removes an optional field of a map.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["merge_pod_template"]

#: Merge key of each list in a pod template (Kubernetes API reference, `patchMergeKey` of PodSpec and Container).
_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "env": ("name",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
#: Lists that only grow: an entry of the patch comes on top unless it is there already.
_APPENDED = frozenset({"tolerations", "supplementalGroups"})
#: What a key counts as where it is left out.
_KEY_DEFAULTS = {"protocol": "TCP"}


def merge_pod_template(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `patch` over it. Neither is changed, and the result shares nothing with them."""
    merged: dict[str, Any] = copy.deepcopy(dict(base))
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key in merged:
            merged[key] = _merged(key, merged[key], value)
        else:
            merged[key] = _clean(value)
    return merged


def _merged(key: str, base: object, patch: object) -> object:
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        return merge_pod_template(base, patch)
    if isinstance(base, list) and isinstance(patch, list):
        return _merged_list(key, base, patch)
    return _clean(patch)


def _merged_list(key: str, base: Sequence[Any], patch: Sequence[Any]) -> list[Any]:
    if key in _APPENDED:
        return [*base, *(copy.deepcopy(item) for item in patch if item not in base)]
    merge_keys = _MERGE_KEYS.get(key)
    if merge_keys is None or not all(isinstance(item, Mapping) for item in [*base, *patch]):
        return [_clean(item) for item in patch]
    result = list(base)
    positions = {_identity(item, merge_keys): i for i, item in enumerate(result)}
    for item in patch:
        identity = _identity(item, merge_keys)
        if identity in positions:
            result[positions[identity]] = merge_pod_template(result[positions[identity]], item)
        else:
            positions[identity] = len(result)
            result.append(_clean(item))
    return result


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(repr(item.get(key, _KEY_DEFAULTS.get(key))) for key in keys)


def _clean(value: object) -> object:
    """A copy without the nulls: where there is nothing to remove, null means nothing."""
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return copy.deepcopy(value)
