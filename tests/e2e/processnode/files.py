"""The files of volumes that hold objects of the cluster: configMap, secret, downwardAPI, projected. Pure.

A service account token in a projected volume has to be asked for; the caller brings it.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .env import PodContext
from .lookup import Manifest, Missing, field_text, resource_text

__all__ = ["File", "files_of", "holds_objects", "token_requests"]

_KINDS = ("configMap", "secret", "downwardAPI", "projected")


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    mode: int  # permission bits, before a group is added for fsGroup


def holds_objects(volume: Manifest) -> bool:
    return any(kind in volume for kind in _KINDS)


def token_requests(volume: Manifest) -> list[Manifest]:
    """The service account tokens of a projected volume, each with `path` and perhaps audience and expiry."""
    sources = volume.get("projected", {}).get("sources") or ()
    return [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]


def files_of(volume: Manifest, context: PodContext, tokens: Mapping[str, str]) -> dict[str, File]:
    """Files by their path in the volume.

    Args:
        tokens: service account tokens by their path.

    Raises:
        Missing: an object or key that is not optional is not there.
    """
    if "projected" not in volume:
        kind = next(kind for kind in _KINDS if kind in volume)
        return _part(kind, volume[kind], volume[kind].get("defaultMode", 0o644), context)
    default = volume["projected"].get("defaultMode", 0o644)
    files: dict[str, File] = {}
    for source in volume["projected"].get("sources") or ():
        for kind, given in source.items():
            if kind == "serviceAccountToken":
                files[given["path"]] = File(tokens[given["path"]].encode(), default)
            else:
                files |= _part(kind, given, default, context)
    return files


def _part(kind: str, given: Manifest, default: int, context: PodContext) -> dict[str, File]:
    if kind == "downwardAPI":
        return _downward(given.get("items", ()), default, context)
    plural = "configmaps" if kind == "configMap" else "secrets"
    name = given.get("name") or given.get("secretName")
    optional = bool(given.get("optional"))
    found = context.find(plural, str(name))
    if found is None:
        if optional:
            return {}
        raise Missing(f'{plural[:-1]} "{name}" not found')
    content = _content(plural, found)
    items = given.get("items")
    if not items:
        return {key: File(value, default) for key, value in content.items()}
    return _picked(items, content, default, f'{plural[:-1]} "{name}"', optional=optional)


def _content(plural: str, found: Manifest) -> dict[str, bytes]:
    data = found.get("data") or {}
    if plural == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = found.get("binaryData") or {}
    return {k: str(v).encode() for k, v in data.items()} | {k: base64.b64decode(v) for k, v in binary.items()}


def _picked(
    items: Iterable[Manifest], content: Mapping[str, bytes], default: int, where: str, *, optional: bool
) -> dict[str, File]:
    files: dict[str, File] = {}
    for item in items:
        if item["key"] in content:
            files[item["path"]] = File(content[item["key"]], item.get("mode", default))
        elif not optional:
            raise Missing(f"{where} has no key {item['key']}")
    return files


def _downward(items: Iterable[Manifest], default: int, context: PodContext) -> dict[str, File]:
    files: dict[str, File] = {}
    for item in items:
        if "fieldRef" in item:
            text = field_text(context.pod, item["fieldRef"]["fieldPath"], context.address)
        else:
            text = resource_text(context.pod, "", item["resourceFieldRef"], context.capacity)
        files[item["path"]] = File(text.encode(), item.get("mode", default))
    return files
