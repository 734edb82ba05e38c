"""The same sessions twice on the same engines, too many for their caches: without the program scheduler, then with it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.gain.figures import Outcome
from benchmarks.gain.workload import Scaling
from rich.console import Console
from rich.table import Table

from tests.e2e.asking import Asking
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.tools import cache_dir

from .fanout import fan_out
from .show import step
from .traffic import Load, Traffic

__all__ = ["FIELDS", "environment", "under_pressure"]

#: Of the recorded tokens and seconds: contexts of up to 150,000 tokens become 5,000, gaps of a minute 2 s. One number
#: for both, so that computing is to waiting what it was. A minute of it is half an hour.
_SCALE = 32
SCALING = Scaling(tokens=_SCALE, gaps=1 / _SCALE, block=64, most_tokens=30_000)
#: Two engines' caches of 37,000 tokens hold so many of these sessions; of each program so many are live, so all are twice that.
_FIT = 26
_LIVE = 26
#: What is changed in the example for this, by kind: the scheduler's sizes follow the engine's step, and the programs'
#: times are divided by the same number as the sessions'.
FIELDS: Mapping[str, Mapping[str, object]] = {
    "AgenticServingStack": {
        "spec.engine.args": ["--max-num-batched-tokens=256"],
        "spec.programScheduling.mode": "Off",
    },
    "AgentProgram": {"spec.objective.maxHold": "10s", "spec.identity.idleTimeout": "60s"},
}
#: Profile `sketch` of the engine simulator, whose steps are as much shorter as they compute fewer tokens.
_PROFILE = {
    "name": "demo",
    "source": f"assumed: as `sketch`, for 1/{_SCALE} of the tokens and seconds",
    "base_s": 0.02 / _SCALE,
    "prefill_token_s": 1 / 15_000,
}
_SIBLINGS = 5
_ROLLOUT_TIMEOUT_S = 120


def environment(folder: Path) -> dict[str, str]:
    """Variables of all containers: the policy's seconds and the engines' steps are scaled too. Files of it go to the folder."""
    folder.chmod(0o755)  # containers run as another user
    profile = folder / "profile.json"
    profile.write_text(json.dumps(_PROFILE))
    return {"AGENTIC_SERVING_TIME_SCALE": str(1 / _SCALE), "ENGINESIM_PROFILE": str(profile)}


def under_pressure(cluster: ControlPlane, namespace: str, stack: str, model: str, duration_s: float) -> None:
    """Replays, shows what the scheduler does and why, and prints what it gained.

    The stack must be Ready, in mode Off.
    """
    traffic = Traffic(cluster=cluster, namespace=namespace, stack=stack)
    asking = Asking(cluster, namespace, stack)
    step(
        f"pressure, without the program scheduler: {2 * _LIVE} live sessions, caches for {_FIT}, {duration_s:.0f} s"
    )
    before = traffic.run(_load(duration_s, seed=1), tables=False)
    step("switch it on: requests go on meanwhile, engines and their caches stay as they are")
    _switch(cluster, namespace, stack, "Enforce")
    step(
        f"the same sessions again, with it, {duration_s:.0f} s; in the middle: agentic-serving top {stack} --once"
    )
    after = traffic.run(_load(duration_s, seed=2), look=asking.top, tables=False)
    _explained(traffic, asking, model)
    step("what it gained")
    _told(before, after)


def _load(duration_s: float, seed: int) -> Load:
    return Load(scaling=SCALING, live=_LIVE, duration_s=duration_s, seed=seed)


def _switch(cluster: ControlPlane, namespace: str, stack: str, mode: str) -> None:
    patch = f'{{"spec":{{"programScheduling":{{"mode":"{mode}"}}}}}}'
    print(f"$ kubectl patch astack {stack} --type=merge -p '{patch}'", flush=True)
    cluster.kubectl("patch", "astack", stack, "-n", namespace, "--type=merge", "-p", patch)
    for condition in ("SchedulerHealthy=True", "Ready=True"):
        cluster.kubectl(
            "wait",
            "astack",
            stack,
            "-n",
            namespace,
            f"--for=condition={condition}",
            f"--timeout={_ROLLOUT_TIMEOUT_S}s",
        )
    cluster.kubectl(
        "rollout", "status", f"deploy/{stack}-router", "-n", namespace, f"--timeout={_ROLLOUT_TIMEOUT_S}s"
    )
    print(cluster.kubectl("get", "pods", "-n", namespace, "-o", "wide"), flush=True)


def _explained(traffic: Traffic, asking: Asking, model: str) -> None:
    name = f"review-{int(time.time())}"
    step(
        f"a fan-out: {_SIBLINGS} helpers begin with the same 6,000 tokens; agentic-serving explain run {name}"
    )
    fan_out(traffic.endpoint, model, {"x-pipeline": "nightly-review"}, name=name, children=_SIBLINGS)
    picture = cache_dir().parent / "demo-run.svg"
    print(asking.explained(f"nightly-review/{name}", "--svg", str(picture)))
    print(f"the same as a picture: {picture}", flush=True)


def _told(before: Outcome, after: Outcome) -> None:
    table = Table("", "mode Off", "mode Enforce", "gain", box=None)
    rows = (
        ("task completion, mean", before.task_mean_s, after.task_mean_s),
        ("task completion, p50", before.task_p50_s, after.task_p50_s),
        ("task completion, p95", before.task_p95_s, after.task_p95_s),
        ("first token, p50", before.first_token_p50_s, after.first_token_p50_s),
    )
    for name, off_s, on_s in rows:
        table.add_row(name, f"{off_s:.2f} s", f"{on_s:.2f} s", f"{off_s / on_s:.1f} x" if on_s else "-")
    ratio = f"{after.turns / before.turns:.1f} x" if before.turns else "-"
    table.add_row("turns answered", str(before.turns), str(after.turns), ratio)
    table.add_row("computed again", f"{before.recompute_share:.0%}", f"{after.recompute_share:.0%}", "")
    table.add_row("tasks, of them unfinished", _tasks(before), _tasks(after), "")
    table.add_row("failed requests", str(before.failed), str(after.failed), "")
    Console().print(table)
    print(
        "One run each, on simulated engines, at a thirty-second of the recorded tokens and seconds: it shows how it works, not how\n"
        "much it gains on your hardware (docs/benchmarks.md). An unfinished task counts with its age. Computed again: of the\n"
        "prompt tokens that an earlier turn of the same session had sent, those that no cache held any more."
    )


def _tasks(found: Outcome) -> str:
    return f"{found.tasks}, {found.unfinished}"
