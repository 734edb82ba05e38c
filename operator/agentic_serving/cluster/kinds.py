"""Every kind of object that the operator reads or writes. Secrets are not among them."""

from agentic_serving import names
from agentic_serving.cluster.port import Kind, Manifest

__all__ = [
    "ALL_KINDS",
    "CONFIG_MAP",
    "DEPLOYMENT",
    "EVENT",
    "GIE_INFERENCE_OBJECTIVE",
    "HTTP_ROUTE",
    "INFERENCE_POOL",
    "LEASE",
    "LLMD_INFERENCE_OBJECTIVE",
    "NAMESPACE",
    "NETWORK_POLICY",
    "PERSISTENT_VOLUME_CLAIM",
    "POD",
    "POD_DISRUPTION_BUDGET",
    "POD_MONITOR",
    "POLICY",
    "PROGRAM",
    "ROLE",
    "ROLE_BINDING",
    "SERVICE",
    "SERVICE_ACCOUNT",
    "STACK",
    "by_gvk",
    "of",
]

STACK = Kind(names.GROUP, names.VERSION, "AgenticServingStack", "agenticservingstacks")
PROGRAM = Kind(names.GROUP, names.VERSION, "AgentProgram", "agentprograms")
POLICY = Kind(names.GROUP, names.VERSION, "KVTierPolicy", "kvtierpolicies")

DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
SERVICE = Kind("", "v1", "Service", "services")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")

POD = Kind("", "v1", "Pod", "pods")  # read only
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)  # read only
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Kind("events.k8s.io", "v1", "Event", "events")

# Kinds that a cluster need not have.
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
INFERENCE_POOL = Kind("inference.networking.k8s.io", "v1", "InferencePool", "inferencepools")
LLMD_INFERENCE_OBJECTIVE = Kind("llm-d.ai", "v1alpha2", "InferenceObjective", "inferenceobjectives")
GIE_INFERENCE_OBJECTIVE = Kind(
    "inference.networking.x-k8s.io", "v1alpha2", "InferenceObjective", "inferenceobjectives"
)
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")

ALL_KINDS: tuple[Kind, ...] = (
    STACK, PROGRAM, POLICY,
    DEPLOYMENT, SERVICE, CONFIG_MAP, SERVICE_ACCOUNT, PERSISTENT_VOLUME_CLAIM, ROLE, ROLE_BINDING,
    POD_DISRUPTION_BUDGET, NETWORK_POLICY,
    POD, NAMESPACE, LEASE, EVENT,
    HTTP_ROUTE, INFERENCE_POOL, LLMD_INFERENCE_OBJECTIVE, GIE_INFERENCE_OBJECTIVE, POD_MONITOR,
)  # fmt: skip

_BY_GVK = {(kind.api_version, kind.kind): kind for kind in ALL_KINDS}


def by_gvk(api_version: str, kind: str) -> Kind:
    """The kind of that name.

    Raises:
        KeyError: the operator does not handle it.
    """
    return _BY_GVK[api_version, kind]


def of(manifest: Manifest) -> Kind:
    """The kind that a manifest says it is.

    Raises:
        KeyError: the operator does not handle it.
    """
    return by_gvk(manifest["apiVersion"], manifest["kind"])
