"""One rich object of every kind that the operator applies: what `test_diff_oracle.py` asks the API server about.

Each states as many sorts of fields as the operator or a user's `podTemplate` may: defaults filled in by the server
inside lists replaced as a whole, quantities it rewrites, zeros and empty maps it drops.
"""

from typing import Any

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind, Manifest

__all__ = ["OBJECTS"]

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "1111", "controller": True}
LABELS = {"app": "chat"}


def _object(kind: Kind, name: str, **fields: Any) -> Manifest:
    metadata = {"name": name, "labels": {"a": "b"}, "ownerReferences": [OWNER]}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


CONTAINER: Manifest = {
    "name": "engine",
    "image": "engine:1",
    "command": ["serve"],
    "args": ["--port", "8000"],
    "workingDir": "",
    "ports": [
        {"containerPort": 8000, "name": "http"},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "TCP"},
    ],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "EMPTY", "value": ""},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
    ],
    "resources": {
        "limits": {"cpu": "0.5", "memory": "1024Mi", "nvidia.com/gpu": 1},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    },
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "startupProbe": {
        "httpGet": {"path": "/health", "port": "http"},
        "failureThreshold": 60,
        "initialDelaySeconds": 0,
    },
    "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
    "volumeMounts": [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "files", "mountPath": "/etc/chat", "readOnly": True},
    ],
}

POD_SPEC: Manifest = {
    "serviceAccountName": "chat",
    "terminationGracePeriodSeconds": 60,
    "hostNetwork": False,
    "nodeSelector": {"accelerator": "h200"},
    "imagePullSecrets": [{"name": "pull"}],
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": LABELS},
        }
    ],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": LABELS},
                    },
                }
            ]
        }
    },
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [
        {
            "name": "sidecar",
            "image": "sidecar:1",
            "restartPolicy": "Always",
            "ports": [{"containerPort": 8200, "name": "serve"}],
            "securityContext": {},
        }
    ],
    "containers": [CONTAINER],
    "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2048Mi"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "files", "configMap": {"name": "files", "items": [{"key": "a", "path": "b"}]}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {
            "name": "labels",
            "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
    ],
}

DEPLOYMENT = _object(
    kinds.DEPLOYMENT,
    "chat",
    spec={
        "replicas": 2,
        "paused": False,
        "minReadySeconds": 0,
        "selector": {"matchLabels": LABELS},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": LABELS, "annotations": {"hash": "1"}}, "spec": POD_SPEC},
    },
)

HTTP_ROUTE = _object(
    kinds.HTTP_ROUTE,
    "route",
    spec={
        "parentRefs": [{"name": "gateway"}],
        "hostnames": ["chat.example"],
        "rules": [
            {
                "matches": [{"path": {"value": "/v1"}}, {"headers": [{"name": "x", "value": "y"}]}],
                "backendRefs": [{"name": "chat", "port": 80}],
                "timeouts": {"request": "0s"},
            },
            {"backendRefs": [{"name": "chat", "port": 80}]},
        ],
    },
)

NETWORK_POLICY = _object(
    kinds.NETWORK_POLICY,
    "wall",
    spec={
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": LABELS}}, {"namespaceSelector": {}}],
                "ports": [{"port": 80}, {"port": "http", "protocol": "TCP"}, {"port": 8000, "endPort": 8010}],
            }
        ],
        "egress": [],
    },
)

POD_MONITOR = _object(
    kinds.POD_MONITOR,
    "monitor",
    spec={
        "selector": {"matchLabels": LABELS},
        "podMetricsEndpoints": [
            {
                "port": "http",
                "interval": "15s",
                "path": "/metrics",
                "relabelings": [{"sourceLabels": ["a"], "targetLabel": "b"}],
            }
        ],
    },
)

ROLE_REF = {"kind": "Role", "name": "chat", "apiGroup": "rbac.authorization.k8s.io"}
SUBJECTS = [
    {"kind": "ServiceAccount", "name": "chat", "namespace": "default"},
    {"kind": "Group", "name": "g"},
]

OBJECTS: tuple[Manifest, ...] = (
    DEPLOYMENT,
    HTTP_ROUTE,
    NETWORK_POLICY,
    POD_MONITOR,
    _object(
        kinds.SERVICE,
        "headless",
        spec={
            "selector": LABELS,
            "clusterIP": "None",
            "ports": [
                {"port": 80, "name": "x"},
                {"port": 81, "name": "y", "targetPort": "http", "appProtocol": "kubernetes.io/h2c"},
            ],
        },
    ),
    _object(
        kinds.SERVICE,
        "chat",
        spec={"selector": LABELS, "type": "ClusterIP", "ports": [{"port": 80, "name": "x"}]},
    ),
    _object(kinds.CONFIG_MAP, "files", data={"a": "x\n", "b": ""}, immutable=False),
    _object(
        kinds.SERVICE_ACCOUNT, "chat", automountServiceAccountToken=False, imagePullSecrets=[{"name": "pull"}]
    ),
    _object(
        kinds.ROLE,
        "chat",
        rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"], "resourceNames": []}],
    ),
    _object(kinds.ROLE_BINDING, "chat", roleRef=ROLE_REF, subjects=SUBJECTS),
    _object(
        kinds.POD_DISRUPTION_BUDGET, "chat", spec={"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
    ),
    _object(
        kinds.INFERENCE_POOL,
        "short",
        spec={
            "selector": {"matchLabels": LABELS},
            "targetPorts": [{"number": 8000}],
            "endpointPickerRef": {"name": "picker", "port": {"number": 9002}},
        },
    ),
    _object(
        kinds.INFERENCE_POOL,
        "full",
        spec={
            "selector": {"matchLabels": LABELS},
            "targetPorts": [{"number": 8000}, {"number": 8001}],
            "endpointPickerRef": {
                "name": "picker",
                "kind": "Service",
                "group": "",
                "port": {"number": 9002},
                "failureMode": "FailOpen",
            },
        },
    ),
    _object(
        kinds.GIE_INFERENCE_OBJECTIVE,
        "objective",
        spec={"priority": 0, "poolRef": {"name": "full", "group": "inference.networking.k8s.io"}},
    ),
)
