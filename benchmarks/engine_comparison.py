"""The engine simulator beside real vLLM on this machine's CPU: the same replay of recorded sessions on both.

    python -m benchmarks.engine_comparison              five runs each (about 15 minutes)
    python -m benchmarks.engine_comparison --runs 1     a look

1. Real vLLM is measured with single prompts and small batches, and a time profile is fitted to that (`profile.json`).
2. `agentic-serving replay` drives both with the same sessions, turn about; the simulator uses the fitted profile.
3. Compared turn by turn: prompt, cached and answer tokens (which must be equal), and the time to completion.

The sessions of tests/traces without sub-agents: siblings that arrive in the same millisecond share a prefix that is in
the cache or not by chance, on either engine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentic_serving.fleet.fit import Sample, fit
from agentic_serving.fleet.profile import StepProfile
from tests.e2e.localcluster.process import Workplace
from tests.e2e.realengines import tiny_model
from tests.e2e.realengines.processes import SERVED, Engine, Served, start_sim, start_vllm

ROOT = Path(__file__).parents[1]
TRACES = ROOT / "tests" / "traces" / "claude_code.jsonl"
_BATCHED = 2048  # tokens of one step; `processes` sets the same
_ARGUMENTS = (
    "--max-model-len=32768",
    "--enable-prefix-caching",
    "--block-size=64",
    "--max-num-seqs=16",
    "--enable-force-include-usage",
    "--enable-prompt-tokens-details",
    "--num-gpu-blocks-override=4096",  # holds all sessions: without eviction no hit depends on timing
)
_REPEATS = 5  # of each measurement that the profile is fitted to; the median counts
_PROMPTS = (64, 256, 1024, 2048, 4096, 8192, 16_384)
_BATCHES = ((1, 256), (1, 4096), (2, 256), (4, 256), (4, 4096), (8, 256), (8, 4096))
_ANSWER = 33  # tokens: 32 steps of decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of one run."""

    prompt: int
    cached: int
    output: int
    completion_s: float


Run = dict[tuple[str, str, int], Turn]  # by program, session, turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the runs say. Times in seconds; correlations are Pearson's over turns."""

    turns: int
    prompt_tokens: int
    cached_tokens: int
    turns_with_other_tokens: int
    real_total_s: tuple[float, ...]  # of each run: sum over turns
    sim_total_s: tuple[float, ...]
    real_spread: float  # median over turns of (standard deviation over runs / mean)
    sim_spread: float
    correlation: float  # of the turns' means over runs
    correlation_among_real: (
        float | None
    )  # one real run with the mean of the others, mean over runs: the noise's bound
    median_ratio: float  # simulator / real
    within_quarter: float  # share of turns whose means differ by less than 25 %


def main() -> None:
    """Measure, compare, print, and write the figures."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    with Workplace("agentic-comparison-") as place:
        sessions = _sessions(place.folder)
        served = Served(model=tiny_model(), arguments=_ARGUMENTS)
        real = start_vllm(place, replace(served, name="vllm")).await_ready()
        profile = _measured(real)
        (options.out / "profile.json").write_text(json.dumps(asdict(profile), indent=2) + "\n")
        env = {"ENGINESIM_PROFILE": str(options.out / "profile.json")}
        sim = start_sim(place, replace(served, name="sim", env=env)).await_ready()
        for engine in (real, sim):
            _replay(
                engine, sessions, seed=999
            )  # warm: first requests pay for what is imported and compiled late
        runs: list[tuple[Run, Run]] = []
        for seed in range(options.runs):  # turn about, so that both see the machine's moods
            runs.append((_replay(real, sessions, seed=seed), _replay(sim, sessions, seed=seed)))
            _tell(seed, *runs[-1])
    found = compare([real_run for real_run, _ in runs], [sim_run for _, sim_run in runs])
    _write(options.out, found, profile)


def _tell(seed: int, real: Run, sim: Run) -> None:
    """One line a run, and one for each turn with other token counts."""
    print(f"run {seed + 1}: {_total(real):.1f} s real, {_total(sim):.1f} s simulated", flush=True)
    for key, turn in real.items():
        if _tokens(turn) != _tokens(sim[key]):
            print(
                f"  {key}: (prompt, cached, answer) {_tokens(turn)} real, {_tokens(sim[key])} simulated",
                flush=True,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the engine simulator with real vLLM.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def _sessions(folder: Path) -> Path:
    """The recorded sessions without sub-agents, in a file."""
    lines = TRACES.read_text(encoding="utf-8").splitlines()
    alone = [line for line in lines if not any("requests" in r for r in json.loads(line)["requests"])]
    path = folder / "sessions.jsonl"
    path.write_text("\n".join(alone) + "\n", encoding="utf-8")
    return path


def _measured(engine: Engine) -> StepProfile:
    """A profile fitted to the engine's own histograms, so that HTTP and tokenization do not count."""
    _send(engine, _words(0, 4096), 8)
    samples = [_prefill(engine, n) for n in _PROMPTS] + [_decode(engine, *batch) for batch in _BATCHES]
    source = (
        f"measured: vLLM {engine.client.get('/version').json()['version']} on {os.cpu_count()} CPU cores "
        f"({platform.machine()}), tiny random Llama, medians of {_REPEATS}, steps of {_BATCHED} tokens"
    )
    return fit("cpu-measured", source, samples)


def _prefill(engine: Engine, tokens: int) -> Sample:
    """The mean step of a cold prompt that is alone."""
    steps = -(-tokens // _BATCHED)
    times = []
    for repeat in range(_REPEATS):
        before = engine.metrics()
        _send(engine, _words(1 + tokens + repeat, tokens), 1)
        times.append(_grown(engine, before, "vllm:request_prefill_time_seconds_sum"))
    return Sample(
        seconds=statistics.median(times) / steps,
        prefill_tokens=tokens // steps,
        attention_pairs=tokens * (tokens + 1) // 2 // steps,
    )


def _decode(engine: Engine, sequences: int, context: int) -> Sample:
    """A step of that many requests that decode at that context, which is cached."""
    prompts = [_words(100_000 + context + i, context) for i in range(sequences)]
    for prompt in prompts:
        _send(engine, prompt, 1)
    times = []
    for _ in range(_REPEATS):
        before = engine.metrics()
        with ThreadPoolExecutor(sequences) as pool:
            list(pool.map(lambda prompt: _send(engine, prompt, _ANSWER), prompts))
        seconds = _grown(engine, before, "vllm:inter_token_latency_seconds_sum")
        times.append(seconds / _grown(engine, before, "vllm:inter_token_latency_seconds_count"))
    mean_context = context + _ANSWER // 2
    return Sample(
        seconds=statistics.median(times), sequences=sequences, context_tokens=sequences * mean_context
    )


def _words(seed: int, n: int) -> list[int]:
    """Token ids that differ from the first one on for different seeds."""
    return [10 + (seed * 7919 + i * (1 + seed % 97)) % 1000 for i in range(n)]


def _send(engine: Engine, prompt: list[int], answer: int) -> None:
    body = {"model": SERVED, "prompt": prompt, "max_tokens": answer, "ignore_eos": True, "temperature": 0}
    answered = engine.client.post("/v1/completions", body)
    assert answered.status == 200, answered.text


def _grown(engine: Engine, before: dict[str, float], name: str) -> float:
    return engine.metrics()[name] - before[name]


def _replay(engine: Engine, sessions: Path, *, seed: int) -> Run:
    """One replay on an empty cache. No gaps: what is compared is the engine's time, not the sleeping."""
    assert engine.client.post("/reset_prefix_cache").status == 200
    command = [
        sys.executable, "-m", "agentic_serving", "replay", str(sessions),
        f"--endpoint=http://127.0.0.1:{engine.client.port}", f"--model={SERVED}", "--client=opencode",
        "--token-scale=0.1", "--max-output-tokens=64", "--gap-scale=0", "--concurrency=4",
        f"--seed={seed}", "--ignore-eos", "--output=json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the replay failed:\n{done.stderr[-2000:]}")
    return {
        (record["program"], record["session"], record["turn"]): _turn(record)
        for record in json.loads(done.stdout)["records"]
        if record["kind"] == "turn"
    }


def _turn(record: dict[str, Any]) -> Turn:
    usage = record["usage"]
    return Turn(
        prompt=usage["prompt"],
        cached=usage["cached"] or 0,
        output=usage["output"],
        completion_s=record["completion_s"],
    )


def compare(real: Sequence[Run], sim: Sequence[Run]) -> Comparison:
    """The figures of runs with the same seeds in the same order."""
    keys = sorted(real[0])
    other = sum(_tokens(r[key]) != _tokens(s[key]) for r, s in zip(real, sim, strict=True) for key in keys)
    real_s, sim_s = _means(real, keys), _means(sim, keys)
    ratios = [s / r for r, s in zip(real_s, sim_s, strict=True)]
    return Comparison(
        turns=len(keys) * len(real),
        prompt_tokens=sum(turn.prompt for run in real for turn in run.values()),
        cached_tokens=sum(turn.cached for run in real for turn in run.values()),
        turns_with_other_tokens=other,
        real_total_s=tuple(map(_total, real)),
        sim_total_s=tuple(map(_total, sim)),
        real_spread=_spread(real, keys),
        sim_spread=_spread(sim, keys),
        correlation=statistics.correlation(real_s, sim_s),
        correlation_among_real=_among(real, keys),
        median_ratio=statistics.median(ratios),
        within_quarter=sum(0.75 < ratio < 1.25 for ratio in ratios) / len(ratios),
    )


def _tokens(turn: Turn) -> tuple[int, int, int]:
    return turn.prompt, turn.cached, turn.output


def _total(run: Run) -> float:
    return sum(turn.completion_s for turn in run.values())


def _means(runs: Sequence[Run], keys: Sequence[tuple[str, str, int]]) -> list[float]:
    return [statistics.fmean(run[key].completion_s for run in runs) for key in keys]


def _spread(runs: Sequence[Run], keys: Sequence[tuple[str, str, int]]) -> float:
    if len(runs) < 2:
        return 0.0
    times = [[run[key].completion_s for run in runs] for key in keys]
    return statistics.median(statistics.stdev(turn) / statistics.fmean(turn) for turn in times)


def _among(runs: Sequence[Run], keys: Sequence[tuple[str, str, int]]) -> float | None:
    """How well the real runs agree with each other: no model can be expected to do better."""
    if len(runs) < 2:
        return None
    found = []
    for i, run in enumerate(runs):
        others = [other for j, other in enumerate(runs) if j != i]
        found.append(statistics.correlation(_means([run], keys), _means(others, keys)))
    return statistics.fmean(found)


def _write(out: Path, found: Comparison, profile: StepProfile) -> None:
    figures = {**asdict(found), "profile": asdict(profile)}
    (out / "comparison.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    if found.turns_with_other_tokens:
        raise SystemExit(f"{found.turns_with_other_tokens} turns have other token counts on the simulator")


if __name__ == "__main__":
    main()
