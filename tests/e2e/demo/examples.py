"""`make demo ARGS=--examples`: every example becomes Ready on a real control plane; pods are kwok's, nothing runs in them.

Also what `make demo` shows where pods cannot run as processes. On a cluster of your own: AGENTIC_E2E_KUBECONFIG=...
"""

from tests.e2e.localcluster import providers
from tests.e2e.localcluster.cluster import Cluster
from tests.e2e.localcluster.controlplane import Options
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.e2e.operator_process import ROOT, OperatorProcess, install

from .claims import claims, volumes
from .mistake import break_and_repair
from .show import objects, objects_of, show, step, wait_ready

__all__ = ["tour"]

NAMESPACE = "agents"
_READY_TIMEOUT_S = 120.0
_CHILDREN = (
    "deploy,svc,cm,sa,role,rolebinding,pdb,networkpolicy,inferencepools,inferenceobjectives,podmonitors"
)


def tour() -> None:
    """From an empty cluster to every example Ready, and what `kubectl describe` says."""
    own = providers.choose() == "own"
    step("control plane: etcd, kube-apiserver, controller-manager, scheduler, kwok" if own else "cluster")
    with providers.open_cluster(Options(crds=tuple(CRD_SETS))) as cluster:
        step("install: CRDs, ServiceAccount, RBAC (deploy/install.yaml)")
        install(cluster)
        cluster.create_namespace(NAMESPACE)
        try:
            with OperatorProcess(cluster) as operator:
                _examples(cluster, operator.pid)
        finally:
            cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    _closing()


def _examples(cluster: Cluster, pid: int) -> None:
    examples = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir())
    step(f"apply {len(examples)} examples; the operator runs as process {pid} with its own RBAC")
    volumes(cluster, NAMESPACE, {claim for example in examples for claim in claims(objects(example))})
    for example in examples:
        cluster.apply(objects(example), namespace=NAMESPACE)
    wait_ready(cluster, NAMESPACE, timeout_s=_READY_TIMEOUT_S)
    quickstart = next(e for e in examples if e.name == "quickstart-cpu")
    stack = str(objects_of(quickstart, "AgenticServingStack")[0]["metadata"]["name"])
    step(f"what the operator made for {stack}")
    show(cluster, "get", _CHILDREN, "-n", NAMESPACE, "-l", f"agentic-serving.dev/stack={stack}", "-o", "name")
    step(f"kubectl describe astack {stack}")
    show(cluster, "describe", "astack", stack, "-n", NAMESPACE)
    break_and_repair(cluster, NAMESPACE, stack)


def _closing() -> None:
    print(
        "\nWhat this showed: a real API server accepted the objects, the operator wrote and kept every child under its\n"
        "own rights, and conditions told the truth. Pods were kwok's: scheduled and marked Ready, nothing ran in them,\n"
        "so no engine, Envoy or picker was started here. No network plugin enforced the NetworkPolicies.\n\n"
        "How to go on: make demo                                         serve requests (needs root)\n"
        "              agentic-serving render examples/quickstart-cpu    the objects, without any cluster\n"
        "              agentic-serving explain examples/quickstart-cpu   why each of them is as it is\n"
        "              docs/quickstart.md                                on a cluster of your own"
    )
