"""Controller scale: how long, how many writes, how much CPU and memory for 1 to 500 stacks of 10 pods.

    make bench                                 every size (about 25 minutes)
    make bench ARGS="--sizes 1,10 --out /tmp"  some

One real control plane and one operator process a size, on the same machine: the API server's work competes with
the operator's, as on a small cluster. Pods are kwok's. What the operator wrote is read from the API server's audit
log, never from the operator itself.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.localcluster.audit import AuditEntry
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.nodes import DEFAULT_NODES, NodeSpec, numbered
from tests.e2e.operator_process import USER, OperatorProcess, install

ROOT = Path(__file__).parents[1]
NAMESPACE = "scale"
STACKS = f"/apis/agentic-serving.dev/v1alpha1/namespaces/{NAMESPACE}/agenticservingstacks"
CRDS = ("gateway-api", "inference-pool", "llmd-objective", "pod-monitor")
SIZES = (1, 10, 100, 300, 500)
ENGINE_PODS = 9  # and one router pod
REST_S = 30.0
EDITS_AT_REST = 20
# An edit of an existing stack every so often while the others are being created.
STORM_EDIT_EVERY_S = 2.0
_READY_TIMEOUT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One size. Times in seconds; writes are those of the operator without Leases and Events."""

    stacks: int
    children_s: float
    ready_s: float
    child_writes_per_stack: float
    status_writes_per_stack: float
    children_per_stack: float
    rest_writes_per_minute: float
    cpu_s: float
    peak_rss_mib: float
    edit_at_rest_p50_s: float
    edit_at_rest_p99_s: float
    edit_in_storm_max_s: float | None
    restart_settled_s: float
    restart_writes: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default=",".join(map(str, SIZES)), help="numbers of stacks, comma-separated"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for size in map(int, arguments.sizes.split(",")):
        result = _measure(size)
        print(json.dumps(asdict(result)), flush=True)
        results = sorted([*results, result], key=lambda r: r.stacks)
        (arguments.out / "controller_scale.json").write_text(_report(results))
        _plot(results, arguments.out / "controller_scale.png")
    print(_table(results))
    return 0


def _measure(size: int) -> Result:
    _say(f"{size} stacks: starting a control plane")
    nodes = _nodes(size)
    with ControlPlane(Options(nodes=nodes, crds=CRDS)) as cp:
        install(cp)
        cp.create_namespace(NAMESPACE)
        with OperatorProcess(cp) as operator:
            return _run(cp, operator, size)


def _nodes(size: int) -> tuple[NodeSpec, ...]:
    """Room for every pod: a fake node takes 1,000; engine pods need the preset's nodes, router pods untainted ones."""
    by_name = {str(spec["name"]): spec for spec in DEFAULT_NODES}
    engines = numbered(math.ceil((size + 1) * ENGINE_PODS / 900), (by_name["nvidia-h200"],))
    routers = numbered(math.ceil((size + 1) / 450), (by_name["cpu"],))
    return (*engines, *routers)


def _run(cp: ControlPlane, operator: OperatorProcess, size: int) -> Result:
    probe = _create(cp, "probe-stack")
    _wait_ready(cp, "probe-", 1)
    cpu_before_s = _cpu_s(operator)
    names = [f"stack-{i:04}" for i in range(size)]
    mark, began_s = cp.mark(), time.time()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _create(cp, name), names))
    storm_edits = _wait_ready(cp, "stack-", size, edit=probe if size >= 100 else None)
    ready_s = time.time() - began_s
    entries = cp.writes(since=mark, user=USER)
    cpu_s = _cpu_s(operator) - cpu_before_s
    _say(f"{size} stacks Ready after {ready_s:.1f} s; resting")
    of_new = [e for e in entries if e.name.startswith("stack-")]
    children = [e for e in of_new if e.resource != "agenticservingstacks"]
    status = [e for e in of_new if e.resource == "agenticservingstacks"]
    rest = _rest(cp)
    edits = [_edit(cp, name, i) for i, name in zip(range(EDITS_AT_REST), _cycle(names), strict=False)]
    peak = _peak_rss_mib(operator)
    settled_s, restart_writes = _restart(cp, operator)
    created = {(e.resource, e.name) for e in children if e.code == 201}
    return Result(
        stacks=size,
        children_s=round(max(e.answered_s for e in children if e.code == 201) - began_s, 2),
        ready_s=round(ready_s, 2),
        child_writes_per_stack=round(len(children) / size, 2),
        status_writes_per_stack=round(len(status) / size, 2),
        children_per_stack=round(len(created) / size, 2),
        rest_writes_per_minute=rest,
        cpu_s=round(cpu_s, 2),
        peak_rss_mib=round(peak, 1),
        edit_at_rest_p50_s=round(statistics.median(edits), 3),
        edit_at_rest_p99_s=round(max(edits), 3),
        edit_in_storm_max_s=round(max(storm_edits), 3) if storm_edits else None,
        restart_settled_s=round(settled_s, 2),
        restart_writes=restart_writes,
    )


def _stack(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "agentic-serving.dev/v1alpha1",
        "kind": "AgenticServingStack",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"name": "qwen3-32b", "source": {"huggingFace": {"repository": "Qwen/Qwen3-32B"}}},
            "accelerator": {"preset": "nvidia-h200"},
            "topology": {"aggregated": {"replicas": ENGINE_PODS}},
        },
    }


def _create(cp: ControlPlane, name: str) -> str:
    answer = cp.request("POST", STACKS, _stack(name))
    if answer.code != 201:
        raise SystemExit(f"{name} was not created: {answer.body.decode()}")
    return name


def _wait_ready(cp: ControlPlane, prefix: str, count: int, *, edit: str | None = None) -> list[float]:
    """Wait until `count` stacks of these names are Ready; meanwhile edit one now and then, and return how long each edit took."""
    edits: list[float] = []
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        items = [
            i for i in cp.request("GET", STACKS).json()["items"] if i["metadata"]["name"].startswith(prefix)
        ]
        if sum(map(_is_ready, items)) >= count:
            return edits
        if edit is None:
            time.sleep(min(2.0, 0.2 + count / 250))
        else:
            time.sleep(STORM_EDIT_EVERY_S)
            edits.append(_edit(cp, edit, len(edits)))
    raise SystemExit(f"not Ready in time: {sum(map(_is_ready, items))} of {count}")


def _is_ready(stack: dict[str, Any]) -> bool:
    status = stack.get("status", {})
    current = status.get("observedGeneration") == stack["metadata"]["generation"]
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    return current and conditions.get("Ready") == "True"


def _edit(cp: ControlPlane, name: str, number: int) -> float:
    """Seconds from the API server's answer to an edit until its answer to the first child write that follows."""
    mark = cp.mark()
    patch = {"spec": {"router": {"requestTimeout": f"{31 + number}m"}}}
    cp.kubectl("patch", "astack", name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(patch))
    deadline_s = time.monotonic() + 120.0
    while time.monotonic() < deadline_s:
        entries = cp.audit(mark)
        edited = next((e for e in entries if _is_edit(e, name)), None)
        child = next((e for e in entries if edited and _is_child_write(e, name, edited)), None)
        if edited and child:
            return child.answered_s - edited.answered_s
        time.sleep(0.05)
    raise SystemExit(f"an edit of {name} had no effect within 120 s")


def _is_edit(entry: AuditEntry, name: str) -> bool:
    return entry.user != USER and entry.verb == "patch" and entry.name == name and not entry.subresource


def _is_child_write(entry: AuditEntry, name: str, edited: AuditEntry) -> bool:
    return (
        entry.user == USER
        and entry.verb in ("create", "patch", "update")
        and entry.resource in ("configmaps", "deployments", "inferencepools")
        and entry.name.startswith(name)
        and entry.answered_s >= edited.answered_s
    )


def _rest(cp: ControlPlane) -> float:
    """Writes a minute after everything has settled."""
    time.sleep(5)
    mark = cp.mark()
    time.sleep(REST_S)
    return len(cp.writes(since=mark, user=USER)) * 60 / REST_S


def _restart(cp: ControlPlane, operator: OperatorProcess) -> tuple[float, int]:
    """Kill and start again: seconds until the queue is empty, and what was written by then."""
    _await_silence(cp)
    operator.kill()
    mark, began_s = cp.mark(), time.monotonic()
    operator.start()
    while not _answers_idle(operator):
        time.sleep(0.1)
    settled_s = time.monotonic() - began_s
    time.sleep(5)
    written = cp.writes(since=mark, user=USER)
    for entry in written[:10]:
        _say(f"after the restart: {entry}")
    return settled_s, len(written)


def _await_silence(cp: ControlPlane, quiet_s: float = 65.0) -> None:
    """Wait until nothing was written for longer than progress may be held back (60 s)."""
    while True:
        mark = cp.mark()
        time.sleep(quiet_s)
        if not cp.writes(since=mark, user=USER):
            return


def _answers_idle(operator: OperatorProcess) -> bool:
    """Whether it says that it is idle. While it reads long lists it may not answer at all."""
    try:
        return _idle(operator.metrics())
    except OSError:
        return False


def _idle(metrics: str) -> bool:
    """Leading, something was reconciled, and nothing waits."""
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line and not line.startswith("#"))
    reconciled = sum(float(v) for k, v in values.items() if k.startswith("agentic_serving_reconcile_total"))
    depth = sum(float(v) for k, v in values.items() if k.startswith("agentic_serving_workqueue_depth"))
    return reconciled > 0 and depth == 0 and float(values.get("agentic_serving_leader", "0")) == 1


def _cycle(names: Sequence[str]) -> list[str]:
    step = max(1, len(names) // EDITS_AT_REST)
    return [names[(i * step) % len(names)] for i in range(EDITS_AT_REST)]


def _cpu_s(operator: OperatorProcess) -> float:
    times = psutil.Process(operator.pid).cpu_times()
    return float(times.user + times.system)


def _peak_rss_mib(operator: OperatorProcess) -> float:
    status = Path(f"/proc/{operator.pid}/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _report(results: Sequence[Result]) -> str:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    return json.dumps({"machine": machine, "results": [asdict(r) for r in results]}, indent=2) + "\n"


def _table(results: Sequence[Result]) -> str:
    """The table of docs/benchmarks.md."""
    rows: list[tuple[str, str]] = [
        ("every child exists, s", "children_s"),
        ("all Ready, s", "ready_s"),
        ("children per stack", "children_per_stack"),
        ("child writes per stack", "child_writes_per_stack"),
        ("status writes per stack", "status_writes_per_stack"),
        ("writes per minute at rest", "rest_writes_per_minute"),
        ("controller CPU, s", "cpu_s"),
        ("peak RSS, MiB", "peak_rss_mib"),
        ("edit to child at rest, p50, s", "edit_at_rest_p50_s"),
        ("edit to child at rest, worst of 20, s", "edit_at_rest_p99_s"),
        ("edit to child in the storm, worst, s", "edit_in_storm_max_s"),
        ("restart settled, s", "restart_settled_s"),
        ("writes after a restart", "restart_writes"),
    ]
    header = "| stacks of 10 pods | " + " | ".join(str(r.stacks) for r in results) + " |"
    lines = [header, "|---" * (len(results) + 1) + "|"]
    for label, field in rows:
        values = [getattr(r, field) for r in results]
        lines.append(f"| {label} | " + " | ".join("-" if v is None else str(v) for v in values) + " |")
    return "\n".join(lines)


def _plot(results: Sequence[Result], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [r.stacks for r in results]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6))
    left.plot(sizes, [r.ready_s for r in results], "o-", label="all Ready")
    left.plot(sizes, [r.children_s for r in results], "s--", label="every child exists")
    left.set_ylabel("seconds")
    left.legend()
    middle.plot(sizes, [r.cpu_s for r in results], "o-")
    middle.set_ylabel("controller CPU, seconds")
    right.plot(sizes, [r.peak_rss_mib for r in results], "o-")
    right.axhline(400, color="grey", linestyle=":", label="limit 400 MiB")
    right.set_ylabel("peak RSS, MiB")
    right.legend()
    for axes in (left, middle, right):
        axes.set_xlabel("stacks of 10 pods")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _say(text: str) -> None:
    print(f"controller_scale: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
