"""Fan-outs, searches, rollouts, reasoning and pipelines: the program scheduler against baselines, in the simulator.

    python -m benchmarks.agentic_workloads [KIND ...]        all kinds, three seeds: about 10 minutes of CPU

Programs are generated (`workload.generate`, which cites every moment), replicas are Qwen3-8B on an H100 by the roofline
profile, with 512,000 tokens of KV cache: decoding slows down with the batch there. Closed loop, each program once.
A pipeline's coder has a stack of its own; policies of the two stacks know nothing of each other, but for ours.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.program.policy import Policy
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate, summary
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.fleets import Stacks
from agentic_serving.simulation.grid import MakePolicy, seated
from agentic_serving.simulation.hosted import Ours
from agentic_serving.simulation.joins import join_summary, joins
from agentic_serving.workload.generate import freed_tokens, generate

_BLOCK = 64
_PROFILE = "Qwen/Qwen3-8B@nvidia-h100"


@dataclass(frozen=True, slots=True)
class Case:
    """So many programs of a kind, so many of them live."""

    programs: int
    live: tuple[int, ...]
    replicas: int = 4
    stacks: bool = False


_CASES: Mapping[str, Case] = {
    "fan-out": Case(40, (3, 12, 24)),
    "tree-search": Case(30, (6,)),
    "rollouts": Case(6, (1, 3)),
    "reasoning": Case(60, (12, 40)),
    "pipeline": Case(120, (20, 60), replicas=2, stacks=True),
}
_POLICIES: Mapping[str, MakePolicy] = {
    **{
        name: BASELINES[name]
        for name in ("scorers", "affinity-filter", "burst-prefix", "least-load", "las-short")
    },
    "thunder-ledger": BASELINES["thunder-ledger"],
    "agentic": Ours(),
    "agentic, siblings do not wait": Ours(Policy(stagger=False)),
}


def main() -> None:
    """One table for each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(_CASES), help=f"some of {', '.join(_CASES)}")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for kind in options.kinds:
        _kind(kind, _CASES[kind], options.seeds)


def _kind(kind: str, case: Case, seeds: int) -> None:
    programs = generate(kind, case.programs, 1)
    fleet = Fleet(
        n_replicas=case.replicas,
        limits=Limits(n_blocks=512_000 // _BLOCK + 1, block_size=_BLOCK),
        profile=find_profile(_PROFILE),
    )
    stacks = Stacks(fleets={"coders": fleet}, agents={"coder": "coders"}) if case.stacks else Stacks()
    workload = Workload(programs, fleet, Gaps(), stacks)
    freed = freed_tokens(programs) / len(programs)
    print(f"\n{kind}: {case.programs} programs, {freed:,.0f} tokens of dropped reasoning each")
    print(
        "| live | policy | run mean s | p95 | p99 | join mean s | p95 | shared prefix computed again | longest hold s |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for live in case.live:
        for name, make in _POLICIES.items():
            setup = Setup(fleet=fleet, load=ClosedLoop(live=live), stacks=stacks)
            print(f"| {live} | {name} | {_row(workload, setup, make, seeds)} |", flush=True)


def _row(workload: Workload, setup: Setup, make: MakePolicy, seeds: int) -> str:
    """Means over seeds."""
    rows = []
    for seed in range(1, seeds + 1):
        seeded = Setup(fleet=setup.fleet, load=setup.load, stacks=setup.stacks, seed=seed)
        result = simulate(workload, seeded, seated(make, seeded, seed))
        found, fans = summary(result), join_summary(joins(result, workload))
        rows.append(
            (
                found.run_s.mean,
                found.run_s.p95,
                found.run_s.p99,
                fans.latency_s.mean,
                fans.latency_s.p95,
                fans.prefilled_again,
                found.held_s,
            )
        )
    means = [fmean(column) for column in zip(*rows, strict=True)]
    return "{:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.3f} | {:.0f}".format(*means)


if __name__ == "__main__":
    main()
