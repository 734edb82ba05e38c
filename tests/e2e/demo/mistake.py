"""A mistake on purpose: the condition says what to change, and what ran keeps running."""

from tests.e2e.localcluster.cluster import Cluster

from .show import step

__all__ = ["break_and_repair"]


def break_and_repair(cluster: Cluster, namespace: str, stack: str) -> None:
    """Ask for an accelerator preset that does not exist, read the conditions, take it back.

    Raises:
        SystemExit: running Deployments were touched.
    """
    step("break it on purpose: an accelerator preset that does not exist")
    good = cluster.get("astack", stack, "-n", namespace)["spec"]["accelerator"]["preset"]
    before = _identities(cluster, namespace, stack)
    _patch(cluster, namespace, stack, "nvidia-h20x")
    _await(cluster, namespace, stack, "Accepted=False")
    for c in cluster.get("astack", stack, "-n", namespace)["status"]["conditions"]:
        if c["type"] in ("Accepted", "Ready", "Stalled"):
            print(f"  {c['type']}={c['status']}  {c['reason']}: {c['message']}")
    same = _identities(cluster, namespace, stack) == before
    print(f"  Deployments untouched: {'yes' if same else 'NO'}")
    _patch(cluster, namespace, stack, good)
    _await(cluster, namespace, stack, "Ready=True")
    print("  repaired: Ready again")
    if not same:
        raise SystemExit("a bad spec touched running Deployments")


def _patch(cluster: Cluster, namespace: str, stack: str, preset: str) -> None:
    patch = f'{{"spec":{{"accelerator":{{"preset":"{preset}"}}}}}}'
    cluster.kubectl("patch", "astack", stack, "-n", namespace, "--type=merge", "-p", patch)


def _await(cluster: Cluster, namespace: str, stack: str, condition: str) -> None:
    cluster.kubectl("wait", "astack", stack, "-n", namespace, f"--for=condition={condition}", "--timeout=60s")


def _identities(cluster: Cluster, namespace: str, stack: str) -> dict[str, tuple[str, int]]:
    """Identity and generation of the stack's Deployments."""
    found = cluster.get("deploy", "-n", namespace, "-l", f"agentic-serving.dev/stack={stack}")["items"]
    return {d["metadata"]["name"]: (d["metadata"]["uid"], d["metadata"]["generation"]) for d in found}
