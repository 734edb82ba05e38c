"""`make demo`: a real control plane, the operator under its own rights, the examples, and what a user sees.

Nothing is left behind but the cache of built binaries. On a cluster of your own: AGENTIC_E2E_KUBECONFIG=... make demo
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .localcluster import providers
from .localcluster.cluster import Cluster
from .localcluster.controlplane import Options
from .operator_process import ROOT, OperatorProcess, install

NAMESPACE = "agents"
KINDS = "astack,aprog,kvtp"
CRDS = ("gateway-api", "inference-pool", "gie-objective", "llmd-objective", "pod-monitor")

_READY_TIMEOUT_S = 120.0
_POLL_S = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    began_s = time.monotonic()
    own = providers.choose() == "own"
    _step("control plane: etcd, kube-apiserver, controller-manager, scheduler, kwok" if own else "cluster")
    with providers.open_cluster(Options(crds=CRDS)) as cluster:
        _step("install: CRDs, ServiceAccount, RBAC (deploy/install.yaml)")
        install(cluster)
        cluster.create_namespace(NAMESPACE)
        try:
            with OperatorProcess(cluster) as operator:
                _tour(cluster, operator)
                print(f"\nDone in {time.monotonic() - began_s:.0f} s.")
                _closing()
                if arguments.keep:
                    _keep(cluster)
        finally:
            cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="stay up at the end, for trying things out (make demo ARGS=--keep)",
    )
    return parser.parse_args(argv)


def _tour(cluster: Cluster, operator: OperatorProcess) -> None:
    examples = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir())
    _step(f"apply {len(examples)} examples; the operator runs as process {operator.pid} with its own RBAC")
    volumes(cluster, NAMESPACE, {claim for example in examples for claim in claims(_objects(example))})
    for example in examples:
        cluster.apply(_objects(example), namespace=NAMESPACE)
    _wait_ready(cluster)
    stack = str(_objects_of(examples[0], "AgenticServingStack")[0]["metadata"]["name"])
    stack = _quickstart(examples, stack)
    _step(f"what the operator made for {stack}")
    kinds = (
        "deploy,svc,cm,sa,role,rolebinding,pdb,networkpolicy,inferencepools,inferenceobjectives,podmonitors"
    )
    _show(cluster, "get", kinds, "-n", NAMESPACE, "-l", f"agentic-serving.dev/stack={stack}", "-o", "name")
    _step(f"kubectl describe astack {stack}")
    _show(cluster, "describe", "astack", stack, "-n", NAMESPACE)
    _break_and_repair(cluster, stack)


def claims(value: object) -> set[str]:
    """Every PersistentVolumeClaim that the objects refer to."""
    if isinstance(value, dict):
        named = {str(value["claimName"])} if "claimName" in value else set()
        return named.union(*map(claims, value.values()))
    return set().union(*map(claims, value)) if isinstance(value, list) else set()


def volumes(cluster: Cluster, namespace: str, names: set[str]) -> None:
    """What an administrator brings: a bound volume for each claim."""
    for claim in sorted(names):
        size = {"storage": "1Ti"}
        common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = f"{namespace}-{claim}"
        where = {"hostPath": {"path": f"/mnt/{claim}"}, "claimRef": {"name": claim, "namespace": namespace}}
        cluster.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": volume},
                    "spec": {"capacity": size, "persistentVolumeReclaimPolicy": "Delete", **common, **where},
                },
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim, "namespace": namespace},
                    "spec": {"volumeName": volume, "resources": {"requests": size}, **common},
                },
            ]
        )


def _quickstart(examples: Sequence[Path], otherwise: str) -> str:
    for example in examples:
        if example.name.startswith("quickstart"):
            return str(_objects_of(example, "AgenticServingStack")[0]["metadata"]["name"])
    return otherwise


def _wait_ready(cluster: Cluster) -> None:
    """Print the table whenever it changes, until every object is Ready."""
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    shown = ""
    while True:
        items = cluster.get(KINDS, "-n", NAMESPACE)["items"]
        table = cluster.kubectl("get", KINDS, "-n", NAMESPACE)
        if _ageless(table) != shown:
            shown = _ageless(table)
            print(f"\n--- {time.strftime('%H:%M:%S')}\n{table}", end="", flush=True)
        if items and all(_condition(item, "Ready") == "True" for item in items):
            return
        if time.monotonic() > deadline_s:
            waiting = [
                f"{i['kind']}/{i['metadata']['name']}" for i in items if _condition(i, "Ready") != "True"
            ]
            raise SystemExit(f"not Ready after {_READY_TIMEOUT_S:.0f} s: {', '.join(waiting)}")
        time.sleep(_POLL_S)


def _ageless(table: str) -> str:
    """The table without its last column, which changes every second."""
    return "\n".join(" ".join(line.split()[:-1]) for line in table.splitlines())


def _break_and_repair(cluster: Cluster, stack: str) -> None:
    """A wrong preset: the condition says what to change, and what ran keeps running."""
    _step("break it on purpose: an unknown accelerator preset")
    good = cluster.get("astack", stack, "-n", NAMESPACE)["spec"]["accelerator"]["preset"]
    before = _uids(cluster, stack)
    _patch_preset(cluster, stack, "nvidia-h20x")
    _await_condition(cluster, stack, "Accepted", "False")
    for condition in cluster.get("astack", stack, "-n", NAMESPACE)["status"]["conditions"]:
        if condition["type"] in ("Accepted", "Ready", "Stalled"):
            print(
                f"  {condition['type']}={condition['status']}  {condition['reason']}: {condition['message']}"
            )
    same = _uids(cluster, stack) == before
    print(f"  Deployments untouched: {'yes' if same else 'NO'}")
    _patch_preset(cluster, stack, good)
    _await_condition(cluster, stack, "Ready", "True")
    print("  repaired: Ready again")
    if not same:
        raise SystemExit("a bad spec touched running Deployments")


def _patch_preset(cluster: Cluster, stack: str, preset: str) -> None:
    patch = f'{{"spec":{{"accelerator":{{"preset":"{preset}"}}}}}}'
    cluster.kubectl("patch", "astack", stack, "-n", NAMESPACE, "--type=merge", "-p", patch)


def _await_condition(cluster: Cluster, stack: str, kind: str, status: str) -> None:
    cluster.kubectl(
        "wait", "astack", stack, "-n", NAMESPACE, f"--for=condition={kind}={status}", "--timeout=60s"
    )


def _uids(cluster: Cluster, stack: str) -> dict[str, tuple[str, int]]:
    """Identity and generation of the stack's Deployments."""
    found = cluster.get("deploy", "-n", NAMESPACE, "-l", f"agentic-serving.dev/stack={stack}")["items"]
    return {d["metadata"]["name"]: (d["metadata"]["uid"], d["metadata"]["generation"]) for d in found}


def _condition(item: dict[str, Any], kind: str) -> str:
    conditions = item.get("status", {}).get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == kind), "Unknown")


def _objects(folder: Path) -> list[dict[str, Any]]:
    texts = [p.read_text() for p in sorted(folder.glob("*.yaml"))]
    return [d for text in texts for d in yaml.safe_load_all(text) if d]


def _objects_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [d for d in _objects(folder) if d["kind"] == kind]


def _show(cluster: Cluster, *args: str) -> None:
    print(f"$ kubectl {' '.join(args)}\n{cluster.kubectl(*args)}", flush=True)


def _step(text: str) -> None:
    width = shutil.get_terminal_size((100, 20)).columns
    print(f"\n== {text}\n{'-' * min(width, 100)}", flush=True)


def _closing() -> None:
    print(
        "What this showed: a real API server accepted the objects, the operator wrote and kept every child under its\n"
        "own rights, and conditions told the truth. Pods were kwok's: scheduled and marked Ready, nothing ran in them,\n"
        "so no engine, Envoy or picker was started here. No network plugin enforced the NetworkPolicies.\n\n"
        "How to go on: make demo ARGS=--keep   stay up and try things with kubectl\n"
        "              agentic-serving render examples/quickstart-cpu     the objects, without any cluster\n"
        "              agentic-serving explain examples/quickstart-cpu    why each of them is as it is\n"
        "              docs/quickstart.md   on a cluster of your own"
    )


def _keep(cluster: Cluster) -> None:
    print(
        f"\nStill up. In another terminal:\n  export KUBECONFIG={cluster.kubeconfig}\n  alias kubectl={cluster.kubectl_path}"
    )
    print(f"  kubectl get {KINDS} -n {NAMESPACE}\nCtrl-C ends it and removes everything.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nstopping")


if __name__ == "__main__":
    sys.exit(main())
