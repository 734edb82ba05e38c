"""Values of a pod that its containers ask for by name: fieldRef and resourceFieldRef. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

__all__ = ["Address", "Missing", "field_text", "quantity", "resource_text"]

Manifest = Mapping[str, Any]
#: What a pod's status will hold but an object just read need not: podIP and hostIP.
Address = Mapping[str, str]

_INDEXED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_SUFFIXES = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


class Missing(LookupError):
    """Something that a container refers to is not there; a kubelet tries again later."""


def quantity(text: str | int | float) -> Decimal:
    """A Kubernetes quantity in its base unit: bytes, CPUs.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(found[1]) * _SUFFIXES[found[2] or ""]


def field_text(pod: Manifest, path: str, address: Address) -> str:
    """The value of a `fieldRef`.

    Raises:
        Missing: the pod has no such field.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    indexed = _INDEXED.fullmatch(path)
    if indexed:
        return str(metadata.get(indexed[1], {}).get(indexed[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{_escaped(values[key])}"' for key in sorted(values))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": address.get("hostIP", ""),
        "status.hostIPs": address.get("hostIP", ""),
        "status.podIP": address.get("podIP", ""),
        "status.podIPs": address.get("podIP", ""),
    }
    if path not in known:
        raise Missing(f"fieldRef {path}: no such field")
    return str(known[path])


def resource_text(pod: Manifest, container: str, selector: Manifest, capacity: Mapping[str, str]) -> str:
    """The value of a `resourceFieldRef`: a limit falls back to what the node has, as a kubelet's does.

    Raises:
        Missing: no such container.
    """
    wanted = selector.get("containerName") or container
    found = [
        c for c in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]) if c["name"] == wanted
    ]
    if not found:
        raise Missing(f"resourceFieldRef: no container {wanted}")
    section, _, resource = str(selector["resource"]).partition(".")
    resources = found[0].get("resources", {})
    given = resources.get(section, {}).get(resource)
    if given is None and section == "requests":
        given = resources.get("limits", {}).get(resource, "0")
    if given is None:
        given = capacity.get(resource, "0")
    divisor = quantity(selector.get("divisor") or "1") or Decimal(1)
    return str(int((quantity(given) / divisor).to_integral_value(ROUND_CEILING)))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
