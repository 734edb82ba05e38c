"""Published figures of others beside what this simulator says of the same situation: direction and size, no more.

    python -m benchmarks.simulator_shape                 the generated workloads (about 3 minutes)
    AGENTIC_TRACES=FOLDER python -m benchmarks.simulator_shape     and recorded Claude Code sessions

AgentServeSim (arXiv:2606.09613) has published tables but neither code nor traces: programs are generated with the
moments it gives. Its figures were read in a note on the paper, versions of which disagree. ThunderAgent
(arXiv:2602.13692) is a check out of sample: nothing here was chosen by it; its hardware's share of peak is not known.
Engines: roofline profiles (`fleet.profiles`) with 90 % of a device's memory for weights and KV cache.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from agentic_serving.capacity.accelerator import find_accelerator
from agentic_serving.capacity.models import find_model
from agentic_serving.errors import Bug
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.tiers import Link, MemoryTier, TierConfig
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import (
    ClosedLoop,
    Fleet,
    Gaps,
    OpenLoop,
    Policy,
    Setup,
    Summary,
    Workload,
    simulate,
    summary,
)
from agentic_serving.simulation.baselines import BASELINES, Routed, SessionAffinity
from agentic_serving.workload import read
from tests.unit.simulation.generated import AGENT_SERVE_SIM, BLOCK, generate

_8B, _70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
_MEMORY_SHARE = (
    0.9  # vLLM's default for gpu_memory_utilization up to 0.11; what activations take is not subtracted
)
_PROGRAMS = 50  # per cell, as in AgentServeSim
_LIVE = 96  # parallel programs, as in ThunderAgent

Make = Callable[[Fleet, int], Policy]


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure. It agrees if the mean over seeds lies between `low` and `high`."""

    what: str
    published: str
    low: float
    high: float
    values: Sequence[float]
    form: str  # of one value

    @property
    def agrees(self) -> bool:
        return self.low <= fmean(self.values) <= self.high

    def __str__(self) -> str:
        shown = self.form.format(fmean(self.values))
        spread = f"{self.form} to {self.form}".format(min(self.values), max(self.values))
        wanted = f"{self.form} to {self.form}".format(self.low, self.high)
        return f"| {self.what} | {self.published} | {shown} ({spread}) | {wanted} | {'yes' if self.agrees else '**no**'} |"


def main() -> None:
    options = _options()
    print("| | published | simulated: mean (seeds) | agrees if in | |\n|---|---|---|---|---|", flush=True)
    for part in (routing, tools, tiers, thunder_generated):
        for row in part(options.seeds):
            print(row, flush=True)
    if options.trace.is_file():
        for row in thunder_recorded(options.trace, options.seeds):
            print(row, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare published figures with simulated ones.")
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(1, 2, 3))
    folder = Path(os.environ.get("AGENTIC_TRACES", "."))
    parser.add_argument("--trace", type=Path, default=folder / "claude_code_sessions.jsonl.gz")
    return parser.parse_args()


def node(model_name: str, accelerator: str, n_replicas: int = 1, *, host_bytes: int = 0) -> Fleet:
    """Replicas of one device each; with `host_bytes` a tier in host memory behind 64 GB/s, as AgentServeSim has it."""
    model, device = find_model(model_name), find_accelerator(accelerator)
    if model is None or model.weight_bytes is None or device.memory_bytes is None:
        raise Bug(f"{model_name} or {accelerator} is not in the tables")
    tokens = int((_MEMORY_SHARE * device.memory_bytes - model.weight_bytes) / model.kv_bytes_per_token)
    block_bytes = model.kv_bytes_per_token * BLOCK
    config = TierConfig(
        source="host",
        capacity_blocks=max(1, host_bytes // block_bytes),
        block_bytes=block_bytes,
        stores_on="computed",
        prompt_only=False,
    )

    def host() -> tuple[MemoryTier, ...]:
        return (MemoryTier(config, read=Link(64e9), write=Link(64e9)),)

    return Fleet(
        n_replicas=n_replicas,
        limits=Limits(n_blocks=tokens // BLOCK + 1, block_size=BLOCK),
        profile=find_profile(f"{model_name}@{accelerator}"),
        tiers=host if host_bytes else tuple,
    )


def cell(fleet: Fleet, make: Make, per_s: float, seed: int, *, tool_scale: float = 1.0) -> Summary:
    """Programs that arrive at random at a rate, to their end."""
    programs = generate(_PROGRAMS, AGENT_SERVE_SIM, seed=seed, tool_scale=tool_scale)
    setup = Setup(fleet=fleet, load=OpenLoop(per_s=per_s), seed=seed)
    return summary(simulate(Workload(programs, fleet, Gaps()), setup, make(fleet, seed)))


def sticky(_fleet: Fleet, _seed: int) -> Policy:
    """A session's replica never changes: AgentServeSim's session-aware routing."""
    return Routed(SessionAffinity(ttl_s=1e9, bound=1e9))


def routing(seeds: Sequence[int]) -> Iterator[Row]:
    """Cached share of prompt tokens on two replicas, 8B on an H100 each; within a percentage point."""
    fleet = node(_8B, "nvidia-h100", 2)
    table: tuple[tuple[str, Make, str, float, float], ...] = (
        ("session-aware", sticky, "96.26 %", 95.26, 97.26),
        ("round robin", BASELINES["round-robin"], "92.6 to 93.0 %", 91.6, 94.0),
        ("least loaded", BASELINES["least-load"], "92.6 to 93.0 %", 91.6, 94.0),
    )
    for name, make, published, low, high in table:
        hits = [
            100 * (1 - cell(fleet, make, per_s, seed).prefill_share)
            for per_s in (0.02, 0.1)
            for seed in seeds
        ]
        yield Row(f"hit share, {name}, 0.02 and 0.1 programs/s", published, low, high, hits, "{:.1f} %")


def tools(seeds: Sequence[int]) -> Iterator[Row]:
    """Continuum against FCFS as tools take longer. Hardware and rate are not given: 70B on a B200 here."""
    fleet, rate = node(_70B, "nvidia-b200"), 0.048  # so that FCFS takes about as long as published
    plain = [cell(fleet, BASELINES["round-robin"], rate, seed).run_s.mean for seed in seeds]
    yield Row("mean completion, FCFS, tools x 1 (fitted)", "260.5 s", 208, 313, plain, "{:.0f} s")
    for scale, published, low, high in (
        (0.25, "-0.2 to 0.2 s", -0.2, 0.2),
        (0.5, "-0.2 to 0.2 s", -0.2, 0.2),
        (1.0, "-69.6 s (-26.7 %)", -140.0, -35.0),
    ):
        gains = [
            cell(fleet, BASELINES["continuum-ttl"], rate, seed, tool_scale=scale).run_s.mean
            - cell(fleet, BASELINES["round-robin"], rate, seed, tool_scale=scale).run_s.mean
            for seed in seeds
        ]
        yield Row(
            f"Continuum - FCFS, mean completion, tools x {scale}", published, low, high, gains, "{:.1f} s"
        )


def tiers(seeds: Sequence[int]) -> Iterator[Row]:
    """Host memory below HBM, 70B on a B200, Continuum. Absolute times within half, the change within a factor of 2."""
    bare = node(_70B, "nvidia-b200")
    tiered = node(_70B, "nvidia-b200", host_bytes=256 * 10**9)
    slow = [cell(bare, BASELINES["continuum-ttl"], 0.04, seed).run_s.mean for seed in seeds]
    yield Row("mean completion, HBM only, 0.04/s (fitted)", "170.5 s", 145, 196, slow, "{:.0f} s")
    hbm = [cell(bare, BASELINES["continuum-ttl"], 0.12, seed).run_s.mean for seed in seeds]
    yield Row("the same at 0.12/s", "417.8 s", 279, 627, hbm, "{:.0f} s")
    host = [cell(tiered, BASELINES["continuum-ttl"], 0.12, seed).run_s.mean for seed in seeds]
    yield Row("HBM and host memory, 0.12/s", "300.7 s", 200, 451, host, "{:.0f} s")
    change = [100 * (h / b - 1) for h, b in zip(host, hbm, strict=True)]
    yield Row("what host memory changes, 0.12/s", "-28.0 %", -56, -14, change, "{:.0f} %")


def _turns_per_s(workload: Workload, fleet: Fleet, make: Make, seed: int, horizon_s: float) -> float:
    """Turns that end, after a quarter of the time, with so many programs always live."""
    load = ClosedLoop(live=_LIVE, repeat=True)
    setup = Setup(fleet=fleet, load=load, seed=seed, horizon_s=horizon_s)
    result = simulate(workload, setup, make(fleet, seed))
    after_s = horizon_s / 4
    return sum(turn.finished_s >= after_s for turn in result.turns) / (horizon_s - after_s)


def _thunder(
    what: str, workload: Workload, fleet: Fleet, seeds: Sequence[int], horizon_s: float
) -> Iterator[Row]:
    demand = _LIVE / workload.live_for(1.0, fleet)
    rates = {
        name: [_turns_per_s(workload, fleet, BASELINES[name], seed, horizon_s) for seed in seeds]
        for name in ("thunder-ledger", "scorers", "continuum-ttl")
    }
    for against, label, low, high in (
        ("scorers", "vLLM", 1.48, 3.58),
        ("continuum-ttl", "Continuum", 1.17, 3.31),
    ):
        ratios = [a / b for a, b in zip(rates["thunder-ledger"], rates[against], strict=True)]
        name = f"ThunderAgent / {label}, turns/s, {_LIVE} {what}, {demand:.1f} times the cache"
        yield Row(name, f"{low} to {high}", low, high, ratios, "{:.2f}")


def thunder_generated(seeds: Sequence[int]) -> Iterator[Row]:
    """Short programs with short tools, as ThunderAgent's are, on one engine whose cache is far too small."""
    fleet = node(_70B, "nvidia-b200")
    workload = Workload(generate(200, AGENT_SERVE_SIM, seed=0), fleet, Gaps())
    yield from _thunder("generated programs", workload, fleet, seeds, 2400.0)


def thunder_recorded(trace: Path, seeds: Sequence[int]) -> Iterator[Row]:
    """Claude Code sessions with a person's pauses, which ThunderAgent was not evaluated on."""
    limits = Limits(n_blocks=1_000_000 // 64 + 1, block_size=64)
    fleet = Fleet(n_replicas=4, limits=limits, profile=find_profile("sketch"))
    workload = Workload(read(trace), fleet, Gaps())
    yield from _thunder("Claude Code sessions", workload, fleet, seeds, 10_800.0)


if __name__ == "__main__":
    main()
