"""The simulator's speed: CPU seconds and memory by number of simulated turns, on one core.

    AGENTIC_TRACES=FOLDER python -m benchmarks.simulator_speed                 every size (about 10 minutes)
    AGENTIC_TRACES=FOLDER python -m benchmarks.simulator_speed --sizes 10000,30000

The full Claude Code sessions on 8 replicas of 1,000,000 KV tokens at twice the demand of their caches, over and over
until the size is reached; repetitions share no blocks. Every size is a process of its own, so that its peak of
resident memory is its own. CPU time, not the clock's: other work on the machine counts less.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate, summary
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.workload import read

ROOT = Path(__file__).parents[1]
TRACE = "claude_code_sessions.jsonl.gz"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_DEMAND = 2.0  # of what the caches hold: evictions, preemption of nobody, queues
_LIMITS = Limits(n_blocks=1_000_000 // 64 + 1, block_size=64)
#: Turns per simulated second at this load, to choose horizons: 11,142 turns took 9,300 s. Sizes are what was reached.
_TURNS_PER_S = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One simulation. CPU seconds of `simulate` alone, of reading and preparing the programs, and MiB at the peak."""

    policy: str
    turns: int
    simulated_s: float
    cpu_s: float
    prepare_s: float
    summary_s: float
    peak_mib: float

    @property
    def turns_per_s(self) -> float:
        return self.turns / self.cpu_s


def main() -> None:
    options = _options()
    if options.child:
        policy, size = options.child.split(":")
        print(json.dumps(asdict(_run(options.trace, policy, int(size)))))
        return
    runs = [
        _in_a_process(options.trace, policy, size)
        for policy in options.policies
        for size in (0, *options.sizes)
    ]
    print(_table(runs))
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {"machine": _machine(), "runs": [asdict(run) for run in runs]}
    (options.out / "simulator_speed.json").write_text(json.dumps(figures, indent=2) + "\n")
    if options.plot:
        _plot(runs, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the simulator.")
    parser.add_argument(
        "--sizes", type=_sizes, default=SIZES, help="turns, with commas; the trace once is always there"
    )
    parser.add_argument("--policies", type=lambda text: text.split(","), default=["scorers"])
    parser.add_argument("--trace", type=Path, default=Path(os.environ.get("AGENTIC_TRACES", ".")) / TRACE)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--plot", type=Path, help="write the picture there (.png, .svg)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _in_a_process(trace: Path, policy: str, size: int) -> Run:
    command = [
        sys.executable,
        "-m",
        "benchmarks.simulator_speed",
        f"--trace={trace}",
        f"--child={policy}:{size}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{policy} at {size} turns failed:\n{done.stderr[-2000:]}")
    run = Run(**json.loads(done.stdout))
    print(
        f"{policy}: {run.turns} turns in {run.cpu_s:.1f} s, {run.peak_mib:.0f} MiB",
        file=sys.stderr,
        flush=True,
    )
    return run


def _run(trace: Path, policy: str, size: int) -> Run:
    """`size` turns or a little more or less; 0: every program once, to its end."""
    began_s = time.process_time()
    fleet = Fleet(n_replicas=8, limits=_LIMITS, profile=find_profile("sketch"))
    workload = Workload(read(trace), fleet, Gaps())
    load = ClosedLoop(live=workload.live_for(_DEMAND, fleet), repeat=bool(size))
    setup = Setup(fleet=fleet, load=load, seed=1, horizon_s=size / _TURNS_PER_S if size else math.inf)
    prepared_s = time.process_time()
    result = simulate(workload, setup, BASELINES[policy](fleet, 1))
    simulated_s = time.process_time()
    found = summary(result)
    return Run(
        policy=policy,
        turns=found.turns,
        simulated_s=result.end_s,
        cpu_s=simulated_s - prepared_s,
        prepare_s=prepared_s - began_s,
        summary_s=time.process_time() - simulated_s,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # KiB on Linux
    )


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _table(runs: Sequence[Run]) -> str:
    lines = ["| policy | turns | CPU s | turns/s | CPU s to report | peak MiB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {run.policy} | {run.turns:,} | {run.cpu_s:.1f} | {run.turns_per_s:,.0f} | {run.summary_s:.2f} | {run.peak_mib:,.0f} |"
        for run in runs
    ]
    return "\n".join(lines)


def _plot(runs: Sequence[Run], path: Path) -> None:
    """Two panels on logarithmic axes, with the line through the first point on which cost per turn is constant."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    seconds, memory = figure.subplots(1, 2)
    for policy in dict.fromkeys(run.policy for run in runs):
        ours = sorted((run for run in runs if run.policy == policy), key=lambda run: run.turns)
        turns = [run.turns for run in ours]
        seconds.loglog(turns, [run.cpu_s for run in ours], marker="o", label=policy)
        memory.loglog(turns, [run.peak_mib for run in ours], marker="o", label=policy)
    first = min(runs, key=lambda run: run.turns)
    ends = (first.turns, max(run.turns for run in runs))
    seconds.loglog(
        ends, [n / first.turns_per_s for n in ends], "k:", label=f"{first.turns_per_s:,.0f} turns/s"
    )
    seconds.set(title="CPU time of one simulation", xlabel="turns", ylabel="s")
    memory.set(title="Peak resident memory", xlabel="turns", ylabel="MiB")
    seconds.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
