"""What goes to an API server and comes from it: a request before authentication, bodies, pages of lists. Pure."""

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

import orjson

from agentic_serving.cluster.port import Kind, Listing, Manifest

__all__ = ["APPLY", "JSON", "Request", "applying", "encode", "listing"]

JSON = "application/json"
#: Server-side apply takes YAML, of which JSON is a part.
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, before authentication."""

    verb: str  # ours, for metrics and messages
    kind: Kind | None
    path: str
    _: KW_ONLY
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest | None = None
    accept: str = JSON
    content: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


def applying(
    verb: str, kind: Kind, manifest: Manifest, subresource: str = "", *, query: Mapping[str, str]
) -> Request:
    metadata = manifest["metadata"]
    path = kind.object_path(metadata.get("namespace"), metadata["name"], subresource)
    return Request(verb, kind, path, method="PATCH", content=APPLY, query=query, body=manifest)


def listing(kind: Kind, page: Manifest) -> Listing:
    """The API server leaves apiVersion and kind out of the items of a list."""
    items = [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"] or ()]
    return Listing(items, page["metadata"].get("resourceVersion", ""))


#: JSON may hold these as they are. The API server reads an apply as YAML, which refuses some and folds the others
#: (line breaks of YAML 1.1) into blanks.
_NOT_PLAIN_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def encode(body: object) -> bytes:
    """JSON that YAML reads as the same value."""
    encoded = orjson.dumps(body)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    text = _NOT_PLAIN_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded.decode())
    return text.encode()
