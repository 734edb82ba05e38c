"""A pod's own HTTP pages through the API server, with the caller's rights: `GET .../pods/<name>:<port>/proxy/<path>`.

The caller needs `get` on `pods/proxy`. The API server's connection must get to the pod: where NetworkPolicies keep the
control plane out, it does not, and a port-forward does.
"""

from dataclasses import dataclass

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Cluster, Kind, Manifest
from agentic_serving.errors import NotFound

__all__ = ["pod_page"]


@dataclass(frozen=True, slots=True)
class _Page(Kind):
    """A page as an object to `get`: the port knows paths by kinds."""

    port: int = 0
    path: str = ""

    def object_path(self, namespace: str | None, name: str, subresource: str = "") -> str:
        pod = Kind.object_path(self, namespace, f"{name}:{self.port}", subresource or "proxy")
        return f"{pod}/{self.path.lstrip('/')}"


async def pod_page(cluster: Cluster, namespace: str, pod: str, port: int, path: str) -> Manifest | None:
    """A page that is JSON; None where the pod answers that there is none.

    Args:
        path: escaped as a URL wants it.

    Raises:
        ClusterError: any of them. NotFound: the pod is not there.
    """
    core = kinds.POD
    page = _Page(core.group, core.version, core.kind, core.plural, port=port, path=path)
    try:
        return await cluster.get(page, namespace, pod)
    except NotFound as error:
        if error.reason == "NotFound":  # the API server's own word; a pod's answer has none
            raise
        return None
