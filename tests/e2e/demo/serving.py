"""`make demo`: the quick-start example serves real agent sessions. Its pods run as processes of this machine.

Real: the control plane, the operator, Envoy, the endpoint picker, kube-proxy; with ENGINE=vllm also vLLM and
LMCache (a tiny random model on the CPU). With ENGINE=sim the engine pods run the engine simulator, and the sessions are
so many that their caches do not hold them: twice the same ones, without the program scheduler and with it.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.gain.workload import Scaling

from tests.e2e.asking import Asking
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.e2e.operator_process import ROOT, OperatorProcess, install
from tests.e2e.processnode.network import Network
from tests.e2e.processnode.node import ProcessNode
from tests.e2e.world import edited

from .mistake import break_and_repair
from .pressure import FIELDS, environment, under_pressure
from .show import KINDS, objects, show, step, wait_ready
from .traffic import Load, Traffic

__all__ = ["Engine", "serve"]

Engine = Literal["sim", "vllm"]

NAMESPACE = "agents"
EXAMPLE = ROOT / "examples" / "quickstart-cpu"
STACK = "quickstart"
MODEL = "qwen3-0.6b"
#: A CPU cannot take 100,000 tokens a turn.
_SMALL = Scaling(tokens=20, gaps=1 / 20, block=64, most_tokens=30_000)
#: Simulated engines start in seconds, two vLLMs on two cores in about a minute.
_READY_TIMEOUT_S = {"sim": 180.0, "vllm": 400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flavour:
    """What differs between the engines.

    Attributes:
        env: for every container, below its own.
        changes: fields of the example's objects by kind, as `world.edited` takes them.
    """

    env: Mapping[str, str]
    changes: Mapping[str, Mapping[str, object]]


def serve(*, engine: Engine, duration_s: float, keep: bool) -> None:
    """From an empty cluster to answered agent sessions, a mistake, and what `kubectl describe` says."""
    step(
        "control plane: etcd, kube-apiserver, controller-manager, scheduler; a node whose pods are processes"
    )
    with (
        tempfile.TemporaryDirectory(prefix="agentic-serving-demo-") as folder,
        ControlPlane(Options(nodes=(), crds=tuple(CRD_SETS), process_nodes=True)) as cluster,
        Network(cluster) as network,
        ExitStack() as running,
    ):
        flavour = _flavour(engine, Path(folder))
        running.enter_context(ProcessNode(cluster, network, engine=engine, env=flavour.env))
        step("install: CRDs, ServiceAccount, RBAC (deploy/install.yaml)")
        install(cluster)
        cluster.create_namespace(NAMESPACE)
        with OperatorProcess(cluster) as operator:
            step(
                f"kubectl apply -f {EXAMPLE.relative_to(ROOT)}; the operator runs as process {operator.pid} with its own RBAC"
            )
            cluster.apply([_adapted(o, flavour) for o in objects(EXAMPLE)], namespace=NAMESPACE)
            for kind, changes in flavour.changes.items():
                for field, value in changes.items():
                    print(f"  changed for the demo: {kind} {field}: {json.dumps(value)}")
            wait_ready(cluster, NAMESPACE, timeout_s=_READY_TIMEOUT_S[engine], explain=lambda: _pods(cluster))
            step("the pods, each of them processes of this machine in a network namespace of its own")
            print(_pods(cluster))
            if engine == "sim":
                under_pressure(cluster, NAMESPACE, STACK, MODEL, duration_s)
            else:
                _replayed(cluster, duration_s)
            break_and_repair(cluster, NAMESPACE, STACK)
            step(f"what a user looks at: kubectl describe astack {STACK}")
            show(cluster, "describe", "astack", STACK, "-n", NAMESPACE)
            _closing(engine)
            if keep:
                _keep(cluster, Traffic(cluster=cluster, namespace=NAMESPACE, stack=STACK).endpoint)


def _replayed(cluster: ControlPlane, duration_s: float) -> None:
    """A few sessions: what a CPU can compute."""
    traffic = Traffic(cluster=cluster, namespace=NAMESPACE, stack=STACK)
    step(f"replay recorded Claude Code sessions as two programs for {duration_s:.0f} s: {traffic.endpoint}")
    traffic.run(
        Load(scaling=_SMALL, live=3, duration_s=duration_s), look=Asking(cluster, NAMESPACE, STACK).top
    )


def _flavour(engine: Engine, folder: Path) -> _Flavour:
    if engine == "sim":
        return _Flavour(env=environment(folder), changes=FIELDS)
    from tests.e2e.realengines import tiny_model  # numpy: only where vLLM is wanted

    env = {
        "AGENTIC_ENGINE_MODEL": str(tiny_model()),
        "AGENTIC_ENGINE_BLOCKS": "640",  # of 64 tokens: the context of the example and some more
    }
    # The newest release that vLLM's CPU wheel exists for.
    changes = {
        "spec.engine.version": "0.32.0",
        "spec.engine.image": "localhost:5001/vllm-openai-cpu-lmcache:v0.32.0",
    }
    return _Flavour(env=env, changes={"AgenticServingStack": changes})


def _adapted(obj: dict[str, Any], flavour: _Flavour) -> dict[str, Any]:
    return edited(obj, flavour.changes.get(obj["kind"], {}))


def _pods(cluster: ControlPlane) -> str:
    return cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "wide")


def _closing(engine: Engine) -> None:
    real = (
        "vLLM and LMCache served a tiny random model"
        if engine == "vllm"
        else "engines were simulated (docs/enginesim.md)"
    )
    print(
        "\nWhat this showed: requests of recorded agent sessions went through the Service, Envoy and the endpoint picker to\n"
        f"engine pods that the operator rendered; {real}.\n"
        "Between the pods the rendered NetworkPolicies were enforced by the local network, not by a CNI plugin.\n\n"
        "How to go on: make demo ARGS=--keep                             stay up and try things with kubectl and curl\n"
        "              make demo ENGINE=vllm                             real vLLM and LMCache (first run: 6 minutes more)\n"
        "              make demo ARGS=--examples                         every example, pods not run\n"
        "              agentic-serving replay --help                     replay sessions against an endpoint of yours\n"
        "              agentic-serving explain examples/quickstart-cpu   why each object is as it is\n"
        "              docs/quickstart.md                                on a cluster of your own"
    )


def _keep(cluster: ControlPlane, endpoint: str) -> None:
    print(
        f"\nStill up. In another terminal:\n  export KUBECONFIG={cluster.kubeconfig}\n  alias kubectl={cluster.kubectl_path}\n"
        f"  kubectl get {KINDS} -n {NAMESPACE}\n"
        f"  curl {endpoint}/v1/chat/completions -H 'content-type: application/json' -d "
        """'{"model": "qwen3-0.6b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}'"""
        "\nCtrl-C ends it and removes everything.",
        flush=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nstopping")
