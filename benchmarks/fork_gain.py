"""Prefixes on further replicas: what siblings that go ahead and warm-ups for declared forks gain, in the simulator.

    python -m benchmarks.fork_gain [CASE ...]       all cases, six seeds: about 25 minutes of CPU

Generated programs (`workload.generate`), another set for every seed; four replicas of Qwen3-8B on an H100 by the roofline
profile, each with 512,000 tokens of KV cache. Closed loop, each program once. Ratios are without over with, geometric means of
pairs with their 95 % interval: above 1 is a gain. Children's first tokens are those of sessions' first turns.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup, Workload, simulate
from agentic_serving.simulation.grid import paired_ratio
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.hosted import Hosted
from agentic_serving.simulation.joins import join_summary, joins
from agentic_serving.workload.generate import generate

_BLOCK = 64
_FLEET = Fleet(
    n_replicas=4,
    limits=Limits(n_blocks=512_000 // _BLOCK + 1, block_size=_BLOCK),
    profile=find_profile("Qwen/Qwen3-8B@nvidia-h100"),
)
_NEITHER = Policy(spread=False, warm_up=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many programs of a kind, so many of them live; what is compared is the default with `without`."""

    kind: str
    live: tuple[int, ...]
    programs: int = 18
    options: Mapping[str, object] = field(default_factory=dict)
    hints: Hints | None = None
    without: Policy = _NEITHER


_CONTEXT = {"from_context": True, "parent_tokens": 60_000}
_CASES: Mapping[str, Case] = {
    "forks of a context of 60,000": Case(kind="fan-out", live=(1, 3, 8, 12), options=_CONTEXT, hints=Hints()),
    "the same, half of what is declared is of another call": Case(
        kind="fan-out", live=(1, 3), options=_CONTEXT, hints=Hints(share_right=0.5)
    ),
    "the same, the opposite is declared": Case(
        kind="fan-out", live=(1, 3), options=_CONTEXT, hints=Hints(share_right=0.0, adversarial=True)
    ),
    "sub-agents that share 60,000": Case(kind="fan-out", live=(1, 3, 8), options={"shared_tokens": 60_000}),
    "sub-agents that share 11,250": Case(kind="fan-out", live=(3, 12)),
    "128 rollouts of 32,000": Case(
        kind="rollouts", live=(1, 3), programs=8, options={"samples": 128, "prompt_tokens": (32_000, 8_000)}
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one simulation; seconds."""

    join_s: float
    join_p95_s: float
    first_s: float
    first_p95_s: float
    warm_ups: int


def main() -> None:
    """One table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(_CASES), help=f"some of {', '.join(_CASES)}")
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    print(
        "| | live | joins mean | p95 | children's first tokens mean | p95 | warm-ups a fork | s: join, first |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.cases:
        for live in _CASES[name].live:
            print(f"| {name} | {live} | {_row(_CASES[name], live, options.seeds)} |", flush=True)


def _row(case: Case, live: int, seeds: int) -> str:
    pairs, forks = [], 0
    for seed in range(1, seeds + 1):
        programs = generate(case.kind, case.programs, seed, **case.options)
        workload = Workload(programs, _FLEET, Gaps())
        setup = Setup(fleet=_FLEET, load=ClosedLoop(live=live), seed=seed, hints=case.hints)
        without, n = _figures(workload, setup, case.without)
        pairs.append((without, _figures(workload, setup, Policy())[0]))
        forks += n
    gains = [
        paired_ratio([(getattr(a, name), getattr(b, name)) for a, b in pairs])
        for name in ("join_s", "join_p95_s", "first_s", "first_p95_s")
    ]
    told = [f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in gains]
    warm_ups = sum(b.warm_ups for _, b in pairs) / forks
    seconds = (
        f"{fmean(a.join_s for a, _ in pairs):.0f} → {fmean(b.join_s for _, b in pairs):.0f}, "
        f"{fmean(a.first_s for a, _ in pairs):.2f} → {fmean(b.first_s for _, b in pairs):.2f}"
    )
    return " | ".join([*told, f"{warm_ups:.1f}", seconds])


def _figures(workload: Workload, setup: Setup, policy: Policy) -> tuple[Figures, int]:
    """And how many fan-outs there were."""
    warm_ups: list[ev.Instruction] = []
    hosted = Hosted(
        policy, on_instruction=lambda one: warm_ups.append(one) if isinstance(one, ev.Warm) else None
    )
    result = simulate(workload, setup, hosted)
    fans = joins(result, workload)
    latency_s = join_summary(fans).latency_s
    firsts = [one for one in result.turns if not one.index]
    children = [one for one in firsts if one.agent != "main"]
    first_s = sorted(one.first_token_s - one.arrived_s for one in children)
    p95_s = first_s[int(0.95 * len(first_s))]
    return Figures(latency_s.mean, latency_s.p95, fmean(first_s), p95_s, len(warm_ups)), len(fans)


if __name__ == "__main__":
    main()
