"""What the scheduler gains through the whole chain: real clients' requests, Envoy, scheduler, picker, two engines.

    python -m benchmarks.router_gain --engine vllm                         3 times demand, five runs of each arm
    python -m benchmarks.router_gain --engine vllm --demand 0.5 --arms prefix+load/Enforce
    python -m benchmarks.router_gain --engine sim --seconds 20 --repeats 1   plumbing only: the engines are our own model

Everything between client and engine is what the operator renders and ships, as processes on loopback: Envoy, `agentic-serving
scheduler run`, an endpoint picker with an InferencePool on a real API server; the engines are two real vLLM on the CPU
with a tiny model and a small KV cache. Clients replay recorded Claude Code sessions, tokens and gaps divided by one
number (gain/workload.py), in a closed loop with as many live programs as the demand asks for: 1 is what both caches
hold. All arms of a repeat have the same programs in the same order with the same words; their order rotates.
The scheduler's parameters are its defaults at the same scale. AGENTIC_E2E_LLMD_EPP=PATH takes llm-d's picker.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gain.arms import ARMS, BASE, link_of
from benchmarks.gain.figures import Open, Outcome, gain, outcome
from benchmarks.gain.machine import Machine, Meter
from benchmarks.gain.workload import Scaling, scaled

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.replay.driver import replay
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import Event, TurnEnded, TurnStarted
from agentic_serving.simulation import Fleet, Gaps, Workload
from agentic_serving.workload import Program, read
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.realengines.processes import SERVED
from tests.e2e.routerkit.chains import running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool
from tests.e2e.routerkit.pickers import LLMD_EPP

ROOT = Path(__file__).parents[1]
_CRDS = ("inference-pool", "gie-objective", "llmd-objective")
_METRICS = ("task_mean_s", "task_p50_s", "task_p95_s")
#: A turn that runs when the time is over is dropped, and its task counts with its age.
_STOP_S = 0.2

Runs = dict[str, dict[int, Outcome]]  # by arm, by seed


def main() -> None:
    options = _options()
    scaling = Scaling(tokens=options.scale, gaps=options.gaps, most_tokens=int(options.cache * 0.85))
    programs = scaled(tuple(read(options.trace)), scaling)
    size = EngineSize(cache_tokens=options.cache)
    live = _live(programs, size, options)
    release = "llm-d-0.10" if os.environ.get(LLMD_EPP) else "gie-1.5"
    n_runs = options.repeats * len(options.arms)
    print(
        f"{len(programs)} programs, {live} live ({options.demand:g} times demand), picker {release}, engines: {options.engine}, "
        f"{n_runs} runs of {options.seconds:g} s: about {n_runs * (options.seconds + 6) / 60:.0f} min",
        flush=True,
    )
    profile = {"ENGINESIM_PROFILE": "cpu-tiny"} if options.engine == "sim" else {}
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=_CRDS)) as cluster,
        engine_pool(cluster, kind=options.engine, size=size, env=profile) as pool,
    ):
        bench = _Bench(pool, programs, scaling, release, live, options)
        bench.warm_up()
        bench.all()


def _live(programs: Sequence[Program], size: EngineSize, options: argparse.Namespace) -> int:
    """Programs that together hold so many times both caches; a matter of the trace alone."""
    limits = Limits(n_blocks=size.cache_tokens // size.block_tokens + 1, block_size=size.block_tokens)
    fleet = Fleet(n_replicas=2, limits=limits, profile=find_profile("cpu-tiny"))
    return Workload(programs, fleet, Gaps()).live_for(options.demand, fleet)


class _Bench:
    """All runs on one pair of engines."""

    def __init__(
        self,
        pool: EnginePool,
        programs: Sequence[Program],
        scaling: Scaling,
        release: str,
        live: int,
        options: argparse.Namespace,
    ) -> None:
        self._pool, self._programs, self._scaling, self._release = pool, programs, scaling, release
        self._live, self._options = live, options
        self._runs: Runs = {arm: {} for arm in options.arms}
        self._machine: dict[str, Machine] = {}

    def warm_up(self) -> None:
        """What is imported and compiled late is paid for here."""
        if self._options.engine == "vllm":
            self._run(self._options.arms[0], seed=10_000, seconds=10.0)

    def all(self) -> None:
        """Every arm of every repeat; figures so far are written after each."""
        began_s, done = time.monotonic(), 0
        total = self._options.repeats * len(self._options.arms)
        for repeat in range(self._options.repeats):
            seed = self._options.seed + repeat
            turned = repeat % len(self._options.arms)
            for arm in (*self._options.arms[turned:], *self._options.arms[:turned]):
                meter = Meter()
                found = self._run(arm, seed=seed, seconds=self._options.seconds)
                self._runs[arm][seed] = found
                self._machine[f"{arm}/{seed}"] = meter.read()
                done += 1
                left_s = (time.monotonic() - began_s) / done * (total - done)
                print(
                    f"{_said(arm, seed, found)}; machine {asdict(self._machine[f'{arm}/{seed}'])}; {left_s / 60:.0f} min left",
                    flush=True,
                )
                self._write()
        print(_table(self._runs))

    def _run(self, arm: str, *, seed: int, seconds: float) -> Outcome:
        self._quiet()
        with running_chain(self._pool, link_of(arm, self._release, self._scaling)) as chain:
            return asyncio.run(_replayed(self._programs, self._replay(chain.url, seed, seconds)))

    def _replay(self, url: str, seed: int, seconds: float) -> Options:
        return Options(
            endpoint=url,
            model=SERVED,
            client="claude-code" if self._release.startswith("llm-d") else "opencode",
            max_gap_s=3600.0,
            max_output_tokens=1024,
            sessions=len(self._programs),
            concurrency=self._live,
            duration_s=seconds,
            stop_s=_STOP_S,
            seed=seed,
            ignore_eos=True,
        )

    def _quiet(self) -> None:
        """The engines have nothing to do and know nothing."""
        for engine in self._pool.engines:
            wait_until(
                lambda e=engine: e.metrics().get("vllm:num_requests_running", 0.0) == 0,  # type: ignore[misc]
                timeout_s=60,
                what="an idle engine",
                watch=[engine.process],
            )
        self._pool.forget()

    def _write(self) -> None:
        options = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(self._options).items()
        }
        data = {
            "options": {**options, "trace": self._options.trace.name, "out": self._options.out.name},
            "picker": self._release,
            "live": self._live,
            "programs": len(self._programs),
            "machine": {name: asdict(one) for name, one in self._machine.items()},
            "runs": {
                arm: {seed: one.data() for seed, one in found.items()} for arm, found in self._runs.items()
            },
            "gain": {
                arm: _gains(self._runs, arm) for arm in self._runs if arm != BASE and BASE in self._runs
            },
        }
        self._options.out.parent.mkdir(parents=True, exist_ok=True)
        self._options.out.write_text(json.dumps(data, indent=1) + "\n")


async def _replayed(programs: Sequence[Program], options: Options) -> Outcome:
    """One replay, and which turns ran when it ended."""
    running: dict[tuple[str, str, int], float] = {}
    zero_s = [time.monotonic()]  # about when the replay began; exactly, once a turn has ended

    def note(event: Event) -> None:
        if isinstance(event, TurnStarted):
            running[event.program, event.session, event.turn] = time.monotonic()
        elif isinstance(event, TurnEnded) and event.record.kind == "turn":
            started = running.pop(event.record.key, None)
            if started is not None:
                zero_s[0] = started - event.record.started_s

    found = await replay(programs, options, on_event=note)
    still = [Open(*key, max(0.0, started - zero_s[0])) for key, started in running.items()]
    return outcome(programs, found.records, still, options.duration_s or found.summary["run"]["wallSeconds"])


def _said(arm: str, seed: int, found: Outcome) -> str:
    return (
        f"{arm:12s} seed {seed}: {found.turns} turns, {found.tasks} tasks ({found.unfinished} unfinished), "
        f"mean {found.task_mean_s:.1f} p50 {found.task_p50_s:.1f} p95 {found.task_p95_s:.1f} s, "
        f"recompute {found.recompute_share:.2f}, failed {found.failed} {dict(found.errors) or ''}"
    )


def _gains(runs: Runs, arm: str) -> dict[str, Any]:
    return {
        metric: asdict(gain(metric, runs[BASE], runs[arm])) for metric in _METRICS if runs[arm] and runs[BASE]
    }


def _table(runs: Runs) -> str:
    lines = [
        "| arm | mean / p50 / p95 s | recompute | tasks | failed | gain over prefix+load: mean, p50, p95 |",
        "|---|---|---|---|---|---|",
    ]
    for arm, found in runs.items():
        means = [sum(getattr(one, metric) for one in found.values()) / len(found) for metric in _METRICS]
        again = sum(one.recompute_share for one in found.values()) / len(found)
        counts = f"{sum(o.tasks for o in found.values())} | {sum(o.failed for o in found.values())}"
        gains = (
            ""
            if arm == BASE or BASE not in runs
            else ", ".join(_interval(g) for g in _gains(runs, arm).values())
        )
        lines.append(
            f"| {arm} | {means[0]:.1f} / {means[1]:.1f} / {means[2]:.1f} | {again:.2f} | {counts} | {gains} |"
        )
    return "\n".join(lines)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the scheduler's gain through the whole chain.")
    folder = os.environ.get("AGENTIC_TRACES")
    trace = (
        Path(folder) / "claude_code_sessions.jsonl.gz" if folder else ROOT / "tests/traces/claude_code.jsonl"
    )
    parser.add_argument("--engine", choices=("vllm", "sim"), default="vllm")
    parser.add_argument("--arms", type=lambda text: tuple(text.split("/")), default=ARMS)
    parser.add_argument("--demand", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first repeat; not 0")
    parser.add_argument("--scale", type=int, default=32, help="recorded tokens per token")
    parser.add_argument("--gaps", type=float, default=1 / 32, help="seconds per recorded second")
    parser.add_argument("--cache", type=int, default=32_768, help="KV tokens of each engine")
    parser.add_argument("--trace", type=Path, default=trace)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    unknown = set(options.arms) - set(ARMS)
    if unknown:
        parser.error(f"--arms: there is no {', '.join(sorted(unknown))}; use {', '.join(ARMS)}")
    options.out = (
        options.out or ROOT / f"benchmarks/results/router-gain-{options.engine}-{options.demand:g}x.json"
    )
    return options


if __name__ == "__main__":
    main()
