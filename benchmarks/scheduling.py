"""The program scheduler against every baseline in the simulator: the figures of docs/benchmarks.md.

    AGENTIC_TRACES=FOLDER python -m benchmarks.scheduling curve           completion from 0.5 to 3 times KV demand
    ... fast        the same on replicas that prefill four times as fast
    ... hold        over `maxHold`
    ... hints       with hints that are right, half wrong, inverted
    ... switches    with each rule off
    ... belady      recompute against Belady's rule on the best baseline's admission order

FOLDER holds claude_code_sessions.jsonl.gz. Programs are those of `--half` (reported; parameters were chosen on the
tuning half), in a closed loop that repeats them, on `--replicas` of 1 M tokens with the profile `sketch`. All policies get
the same seeds. Unfinished tasks count with their age at the horizon.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.program.policy import Policy
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.grid import Cell, Grid, MakePolicy, run_grid
from agentic_serving.simulation.halves import of_half
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.hosted import Ours
from agentic_serving.simulation.metrics import Distribution, Summary
from agentic_serving.simulation.oracle import belady
from agentic_serving.simulation.pool import each, usable_cores
from agentic_serving.workload import read

_BLOCK = 64  # the trace's
_RESULTS = Path(__file__).parent / "results"
_LEDGER = "thunder-ledger-plain"  # the stronger of the two forms
_METRICS = ("task_s.mean", "task_s.p50", "task_s.p95", "task_s.p99")


@dataclass(frozen=True, slots=True)
class Plan:
    """One section: loads, policies, and what ours is compared with."""

    profile: str
    demands: Sequence[float]
    policies: Mapping[str, MakePolicy]
    hints: Hints | None = None


_FEW = {
    name: BASELINES[name]
    for name in ("scorers", "affinity-filter", "session-affinity", "thunder-ledger", _LEDGER)
}
_PLANS = {
    "curve": Plan("sketch", (0.5, 1.0, 1.5, 2.0, 2.5, 3.0), {**BASELINES, "agentic": Ours()}),
    "fast": Plan("sketch-fast", (0.5, 1.0, 2.0, 3.0), {**_FEW, "agentic": Ours()}),
    "hold": Plan(
        "sketch",
        (2.5,),
        {f"agentic, {s:g} s": Ours(max_hold_s=s) for s in (30.0, 60.0, 120.0, 300.0, 600.0, 1e9)},
    ),
    "hints": Plan("sketch", (2.5,), {"agentic": Ours()}),
    "switches": Plan(
        "sketch",
        (2.5,),
        {
            "agentic": Ours(),
            "hold off": Ours(Policy(hold=False)),
            "stay off": Ours(Policy(stay=False)),
            "order by arrival": Ours(Policy(least_attained_first=False)),
            "siblings all wait": Ours(Policy(spread=False)),
            "no recompute budget": Ours(Policy(recompute_budget=0.0)),
        },
    ),
    "belady": Plan("sketch", (2.0, 2.5), {**_FEW, "agentic": Ours()}),
}
_HINTS: Mapping[str, Hints | None] = {
    "none": None,
    "right": Hints(),
    "half wrong": Hints(share_right=0.5),
    "inverted": Hints(share_right=0.0, adversarial=True),
}


def main() -> None:
    """Run one section; table to stdout, all figures to the results folder."""
    options = _options()
    plan = _PLANS[options.section]
    fleet = Fleet(
        n_replicas=options.replicas,
        limits=Limits(n_blocks=1_000_000 // _BLOCK + 1, block_size=_BLOCK),
        profile=find_profile(plan.profile),
    )
    programs = of_half(read(options.traces / "claude_code_sessions.jsonl.gz"), options.half)
    workload = Workload(programs, fleet, Gaps())
    setups = {f"{demand:g}": _setup(workload, fleet, demand, options.hours) for demand in plan.demands}
    if options.section == "belady":
        _belady(workload, setups, plan, options.seeds)
        return
    if options.section == "hints":
        setups = {name: replace(setups["2.5"], hints=hints) for name, hints in _HINTS.items()}
    policies = {
        name: make for name, make in plan.policies.items() if name in (options.policy or plan.policies)
    }
    grid = _merged(options.section, _run(workload, setups, policies, options))
    known = {cell.policy for cell in grid.cells}
    policies_known = [name for name in plan.policies if name in known]
    _print(grid, list(setups), policies_known)
    if options.plot is not None:
        _plot(grid, list(setups), policies_known, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("section", choices=sorted(_PLANS))
    parser.add_argument("--traces", type=Path, default=os.environ.get("AGENTIC_TRACES"))
    parser.add_argument("--half", choices=("tuning", "reported"), default="reported")
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--hours", type=float, default=3.0, help="simulated time")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--policy", action="append", help="only this one; the others as they were saved")
    parser.add_argument("--plot", type=Path, help="a picture of completion over load, PNG or SVG")
    parser.add_argument("--jobs", type=int, default=usable_cores())
    options = parser.parse_args()
    if options.traces is None:
        parser.error("say where the traces are: --traces FOLDER, or AGENTIC_TRACES")
    return options


def _setup(workload: Workload, fleet: Fleet, demand: float, hours: float) -> Setup:
    load = ClosedLoop(live=workload.live_for(demand, fleet), repeat=True)
    return Setup(fleet=fleet, load=load, horizon_s=hours * 3600)


def _run(
    workload: Workload,
    setups: Mapping[str, Setup],
    policies: Mapping[str, MakePolicy],
    options: argparse.Namespace,
) -> Grid:
    total = len(setups) * len(policies) * options.seeds
    began_s, done = time.monotonic(), 0

    def on_cell(cell: Cell) -> None:
        nonlocal done
        done += 1
        left_s = (time.monotonic() - began_s) / done * (total - done)
        print(
            f"\r{done}/{total}, {left_s:.0f} s left ({cell.policy} at {cell.load})    ",
            end="",
            file=sys.stderr,
        )

    seeds = range(1, options.seeds + 1)
    grid = run_grid(workload, setups, policies, seeds, each=each(options.jobs), on_cell=on_cell)
    print(file=sys.stderr)
    return grid


def _print(grid: Grid, loads: Sequence[str], policies: Sequence[str]) -> None:
    """Means over seeds; then ours against the best of the others, by metric."""
    print(
        "| load | policy | mean s | p50 | p95 | p99 | slowdown | recompute | longest hold s | turns | unfinished |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    names = (*_METRICS, "task_slowdown.mean", "recompute_share", "held_s", "turns", "unfinished_tasks")
    for load in loads:
        for policy in policies:
            found = [_mean(grid, name, policy, load) for name in names]
            form = (
                "| {} | {} | {:.1f} | {:.1f} | {:.0f} | {:.0f} | {:.1f} | {:.3f} | {:.0f} | {:.0f} | {:.0f} |"
            )
            print(form.format(load, policy, *found))
    others = [name for name in policies if name in BASELINES]
    if "agentic" not in policies or not others:
        return
    print(
        "\n| load | metric | best of the others | gain [95 %] | gain over the ledger [95 %] |\n|---|---|---|---|---|"
    )
    for load in loads:
        for metric in _METRICS:
            best = min(
                (name for name in others if not name.startswith("thunder")),
                key=lambda name: _mean(grid, metric, name, load),
            )
            gains = [grid.gain(metric, policy="agentic", against=one, load=load) for one in (best, _LEDGER)]
            cells = " | ".join(f"{gain.mean:.2f} [{gain.low:.2f}, {gain.high:.2f}]" for gain in gains)
            print(f"| {load} | {metric} | {best} | {cells} |")


def _plot(grid: Grid, loads: Sequence[str], policies: Sequence[str], path: Path) -> None:
    """Completion over load, a panel for each metric; ours is the thick line."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for metric, panel in zip(_METRICS, axes.flat, strict=True):
        for policy in policies:
            values = [_mean(grid, metric, policy, load) for load in loads]
            ours = {"lw": 3, "color": "black"} if policy == "agentic" else {"lw": 1}
            panel.plot([float(load) for load in loads], values, marker="o", ms=3, label=policy, **ours)
        panel.set(
            title=f"task completion, {metric.removeprefix('task_s.')}, s",
            xlabel="demand / KV capacity",
            yscale="log",
        )
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=80)


def _mean(grid: Grid, metric: str, policy: str, load: str) -> float:
    values = grid.values(metric, policy=policy, load=load)
    return sum(values.values()) / len(values)


def _belady(workload: Workload, setups: Mapping[str, Setup], plan: Plan, seeds: int) -> None:
    """Recompute of ours, and what Belady's rule would have needed on every baseline's own order."""
    print("| load | seed | policy | turns | recompute | Belady on its order |\n|---|---|---|---|---|---|")
    for load, setup in setups.items():
        for seed in range(1, seeds + 1):
            for name, make in plan.policies.items():
                result = simulate(workload, replace(setup, seed=seed), make(setup.fleet, seed))
                repeated = sum(turn.repeated_tokens for turn in result.turns)
                share = sum(turn.recomputed_tokens for turn in result.turns) / repeated
                bound = belady(result.turns, setup.fleet.limits).recompute_share
                print(
                    f"| {load} | {seed} | {name} | {len(result.turns)} | {share:.3f} | {bound:.3f} |",
                    flush=True,
                )


def _merged(section: str, grid: Grid) -> Grid:
    """With what was saved of other policies before; saved again."""
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / f"scheduling-{section}.json"
    saved = [_cell(one) for one in json.loads(path.read_text())] if path.exists() else []
    fresh = {(cell.policy, cell.load, cell.seed) for cell in grid.cells}
    kept = [cell for cell in saved if (cell.policy, cell.load, cell.seed) not in fresh]
    merged = Grid((*kept, *grid.cells))
    path.write_text(json.dumps([asdict(cell) for cell in merged.cells], indent=1) + "\n")
    return merged


def _cell(data: dict[str, Any]) -> Cell:
    figures: dict[str, Any] = {
        name: Distribution(**value) if isinstance(value, dict) else value
        for name, value in data["summary"].items()
    }
    return Cell(policy=data["policy"], load=data["load"], seed=data["seed"], summary=Summary(**figures))


if __name__ == "__main__":
    main()
