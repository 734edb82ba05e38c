"""The environment of a container. Pure: objects it refers to are looked up through a function.

Source: pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables: Services first, then envFrom, then env in order,
where each value may refer to those before it.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .expand import expand
from .lookup import Address, Manifest, Missing, field_text, resource_text

__all__ = ["PodContext", "environment", "service_variables"]

#: Reads an object of the pod's namespace: (plural, name) to the object, or None.
Find = Callable[[str, str], Manifest | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """What the values of a pod's containers are taken from."""

    pod: Manifest
    address: Address  # hostIP and podIP
    capacity: Mapping[str, str]  # the node's
    find: Find


def environment(
    container: Manifest, context: PodContext, *, image: Mapping[str, str], services: Mapping[str, str]
) -> dict[str, str]:
    """All variables.

    Args:
        image: what the image sets; everything else overrides it.
        services: as `service_variables` makes them.

    Raises:
        Missing: a ConfigMap, Secret or key that is not optional is not there.
    """
    given: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        prefix = source.get("prefix", "")
        given |= {prefix + key: value for key, value in _all_of(source, context).items()}
    for entry in container.get("env", ()):
        value = _value(entry, container["name"], context, {**services, **given})
        if value is not None:
            given[entry["name"]] = value
    return {**image, **services, **given}


def service_variables(services: Iterable[Manifest], *, host: str, port: str, enabled: bool) -> dict[str, str]:
    """The variables that name Services, as Docker links did; always those of the API server.

    Args:
        enabled: the pod's `enableServiceLinks`.
    """
    found = {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
    }
    for service in services if enabled else ():
        address = service["spec"].get("clusterIP")
        if address not in (None, "", "None"):
            found |= _links(service["metadata"]["name"], str(address), service["spec"].get("ports", ()))
    return found


def _links(name: str, address: str, ports: Iterable[Manifest]) -> dict[str, str]:
    stem = name.upper().replace("-", "_")
    found: dict[str, str] = {}
    for i, port in enumerate(ports):
        number, protocol = str(port["port"]), str(port.get("protocol", "TCP"))
        url = f"{protocol.lower()}://{address}:{number}"
        if i == 0:
            found |= {f"{stem}_SERVICE_HOST": address, f"{stem}_SERVICE_PORT": number, f"{stem}_PORT": url}
        if port.get("name"):
            found[f"{stem}_SERVICE_PORT_{str(port['name']).upper().replace('-', '_')}"] = number
        at = f"{stem}_PORT_{number}_{protocol}"
        found |= {at: url, f"{at}_PROTO": protocol.lower(), f"{at}_PORT": number, f"{at}_ADDR": address}
    return found


def _all_of(source: Manifest, context: PodContext) -> dict[str, str]:
    if "configMapRef" in source:
        return _text_of("configmaps", source["configMapRef"], context)
    return _text_of("secrets", source["secretRef"], context)


def _text_of(plural: str, reference: Manifest, context: PodContext) -> dict[str, str]:
    found = context.find(plural, reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise Missing(f'{plural[:-1]} "{reference["name"]}" not found')
    data = found.get("data") or {}
    if plural == "secrets":
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}
    return {key: str(value) for key, value in data.items()}


def _value(entry: Manifest, container: str, context: PodContext, known: Mapping[str, str]) -> str | None:
    source: Mapping[str, Any] = entry.get("valueFrom") or {}
    if "fieldRef" in source:
        return field_text(context.pod, source["fieldRef"]["fieldPath"], context.address)
    if "resourceFieldRef" in source:
        return resource_text(context.pod, container, source["resourceFieldRef"], context.capacity)
    for field, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if field in source:
            return _key(plural, source[field], context)
    return expand(str(entry.get("value", "")), known)


def _key(plural: str, reference: Manifest, context: PodContext) -> str | None:
    values = _text_of(plural, reference, context)
    if reference["key"] in values:
        return values[reference["key"]]
    if reference.get("optional"):
        return None
    raise Missing(f'couldn\'t find key {reference["key"]} in {plural[:-1]} "{reference["name"]}"')
