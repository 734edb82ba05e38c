"""What an API server serves, from its aggregated discovery document. Pure.

Source: k8s.io/api `apidiscovery/v2` (stable since Kubernetes 1.30).
"""

from agentic_serving.cluster.port import Manifest
from agentic_serving.errors import Rejected

__all__ = ["DISCOVERY_ACCEPT", "served_kinds"]

DISCOVERY_ACCEPT = "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList"


def served_kinds(document: Manifest) -> set[tuple[str, str, str]]:
    """(group, version, kind) of every resource in the document, subresources aside.

    Raises:
        Rejected: the server answered with another document: it is older than 1.30.
    """
    if document.get("kind") != "APIGroupDiscoveryList":
        raise Rejected(f"the API server offers no aggregated discovery (it sent {document.get('kind')})")
    return {
        (group["metadata"].get("name", ""), version["version"], resource["responseKind"]["kind"])
        for group in document["items"]
        for version in group["versions"]
        for resource in version.get("resources", [])
        if "responseKind" in resource
    }
