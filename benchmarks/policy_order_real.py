"""Do policies come out in the order that the simulator says? Four arms on one real vLLM, and the same simulated.

    python -m benchmarks.policy_order_real                              20 live sessions, 150 s an arm
    AGENTIC_TRACES=FOLDER python -m benchmarks.policy_order_real --live 10 --seconds 180

Recorded Claude Code sessions without sub-agents, tokens by 1/16 and gaps by 0.06, in a closed loop on one vLLM on the
CPU with a tiny model and 32,768 KV tokens. "direct" sends every turn at once; the gates keep the queue outside and let
two turns in: first come first served, or the turn whose task has had the fewest uncached tokens; "agentic" is the program
scheduler with its parameters scaled as the workload is. Both worlds ask the same policy objects. Prompts are token ids that repeat as the recorded blocks do. Answers are not fed back: at a
sixteenth they are shorter than a block. Tasks that do not end count with their age; the first fifth is left out.
"""

# ruff: noqa: ARG002, S311 - every policy is called alike, whatever it looks at; a workload, not a secret

import argparse
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentic_serving.capacity.runs import Interner, ids
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.types import Limits, Stats, Usage
from agentic_serving.program.policy import Policy as Rules
from agentic_serving.simulation import (
    ClosedLoop,
    Ended,
    Fleet,
    Gaps,
    Policy,
    PolicyBase,
    ReplicaView,
    Setup,
    TurnView,
    Workload,
    simulate,
)
from agentic_serving.simulation.hosted import Hosted
from agentic_serving.simulation.metrics import distribution
from agentic_serving.workload import Program, Turn, read, tasks
from tests.e2e.localcluster.process import Workplace
from tests.e2e.realengines import tiny_model
from tests.e2e.realengines.processes import SERVED, Engine, Served, start_vllm

ROOT = Path(__file__).parents[1]
_TOKENS, _GAPS = 16, 0.06  # recorded tokens per token, and seconds per recorded second
_BLOCK = 32  # tokens; vLLM's CPU build takes multiples of 32
_PER_BLOCK = _BLOCK * _TOKENS // 64  # recorded blocks
_LIMITS = Limits(n_blocks=1025, block_size=_BLOCK, max_seqs=8, max_batched_tokens=2048)
_ARGUMENTS = (
    "--max-model-len=32768",
    "--enable-prefix-caching",
    f"--block-size={_BLOCK}",
    f"--max-num-seqs={_LIMITS.max_seqs}",
    f"--num-gpu-blocks-override={_LIMITS.n_blocks}",
    "--enable-prompt-tokens-details",
)
_MOST_TOKENS = 30_000  # of a scaled turn: it must fit the cache


class Direct(PolicyBase):
    """Everything at once."""

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        return 0


class Gated(Direct):
    """At most so many turns in the engine; of those that wait, the first, or the one whose task has had least."""

    def __init__(self, *, in_flight: int = 2, least_uncached: bool) -> None:
        self._in_flight = in_flight
        self._least = least_uncached
        self._had: dict[str, int] = {}  # uncached tokens and answers of the task under way, by program

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return replicas[0].turns < self._in_flight

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        if not self._least:
            return waiting
        return sorted(waiting, key=lambda turn: 0 if turn.kind == "human" else self._had.get(turn.program, 0))

    def on_finish(self, ended: Ended) -> None:
        had = 0 if ended.turn.kind == "human" else self._had.get(ended.turn.program, 0)
        self._had[ended.turn.program] = had + ended.usage.computed_tokens + ended.usage.output_tokens


#: The scheduler's defaults, tokens and seconds scaled as the workload is.
_RULES = Rules(
    small_tokens=8192 // _TOKENS,
    prefill_tokens=16384 // _TOKENS,
    shared_tokens=2048 // _TOKENS,
    return_within_s=200 * _GAPS,
    keep_s=120 * _GAPS,
    overflow_queue_s=200 * _GAPS,
    budget_cap_s=30 * _GAPS,
)

ARMS: dict[str, Callable[[], Policy]] = {
    "direct": Direct,
    "FCFS, 2 in flight": lambda: Gated(least_uncached=False),
    "least uncached, 2 in flight": lambda: Gated(least_uncached=True),
    "agentic": lambda: Hosted(_RULES, max_hold_s=300 * _GAPS),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm in one world: every task's time, and the turns that ended."""

    tasks_s: tuple[float, ...]
    turns: int

    def __str__(self) -> str:
        found = distribution(self.tasks_s)
        return f"{self.turns} | {found.n} | {found.mean:.1f} / {found.p50:.1f} / {found.p95:.1f}"


def main() -> None:
    options = _options()
    programs = tuple(_scaled(read(options.trace)))
    print("| arm | turns, tasks, mean / p50 / p95 s: real | simulated |\n|---|---|---|", flush=True)
    means: list[tuple[float, float]] = []
    with Workplace("agentic-order-") as place:
        engine = start_vllm(place, Served(model=tiny_model(), arguments=_ARGUMENTS)).await_ready()
        _Loop(engine, programs, Direct(), options).run(min(10.0, options.seconds))  # what is loaded late
        for name, make in ARMS.items():
            assert engine.client.post("/reset_prefix_cache").status == 200
            real = _Loop(engine, programs, make(), options).run(options.seconds)
            said = simulated(programs, make(), options)
            print(f"| {name} | {real} | {said} |", flush=True)
            means.append((distribution(real.tasks_s).mean, distribution(said.tasks_s).mean))
    orders = [sorted(ARMS, key=lambda name: means[list(ARMS).index(name)][world]) for world in (0, 1)]
    print(f"best first, real: {'; '.join(orders[0])}\nbest first, simulated: {'; '.join(orders[1])}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the order of policies on real vLLM and simulated.")
    folder = os.environ.get("AGENTIC_TRACES")
    trace = (
        Path(folder) / "claude_code_sessions.jsonl.gz" if folder else ROOT / "tests/traces/claude_code.jsonl"
    )
    parser.add_argument("--trace", type=Path, default=trace)
    parser.add_argument("--live", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _scaled(programs: Sequence[Program]) -> Iterator[Program]:
    for program in programs:
        root, names = program.sessions[0], Interner()
        turns = tuple(_turn(turn, names) for turn in root.turns)
        if (
            len(program.sessions) == 1
            and max(t.prompt_tokens + t.output_tokens for t in turns) <= _MOST_TOKENS
        ):
            yield replace(program, sessions=(replace(root, turns=turns),))


def _turn(turn: Turn, names: Interner) -> Turn:
    """A recorded block's id says its whole prefix: the last one of a scaled block names that."""
    prompt = max(1, turn.prompt_tokens // _TOKENS)
    chain = list(ids(turn.runs))[_PER_BLOCK - 1 :: _PER_BLOCK]
    return replace(
        turn,
        runs=names.runs(chain[: prompt // _BLOCK]),
        block_size=_BLOCK,
        prompt_tokens=prompt,
        output_tokens=max(1, turn.output_tokens // _TOKENS),
        gap_s=min(turn.gap_s, 300.0) * _GAPS,
    )


def simulated(programs: Sequence[Program], policy: Policy, options: argparse.Namespace) -> Outcome:
    fleet = Fleet(n_replicas=1, limits=_LIMITS, profile=find_profile("cpu-tiny"))
    load = ClosedLoop(live=options.live, repeat=True)
    horizon_s, warmup_s = options.seconds, options.seconds / 5
    setup = Setup(fleet=fleet, load=load, seed=options.seed, horizon_s=horizon_s, warmup_s=warmup_s)
    result = simulate(Workload(programs, fleet, Gaps()), setup, policy)
    return Outcome(tuple(task.took_s for task in result.tasks), len(result.turns))


class _Loop:
    """A closed loop on the real engine: a thread for each live session, one policy behind a lock."""

    def __init__(
        self, engine: Engine, programs: Sequence[Program], policy: Policy, options: argparse.Namespace
    ) -> None:
        self._engine, self._policy, self._live = engine, policy, options.live
        order = list(programs)
        random.Random(options.seed).shuffle(order)
        self._order = order
        self._started = 0
        self._lock = threading.Condition()
        self._waiting: dict[str, TurnView] = {}
        free = _LIMITS.usable_blocks
        stats = Stats(running=0, waiting=0, fetching=0, free_blocks=free, usable_blocks=free)
        self._view = ReplicaView(
            index=0,
            cache_tokens=_LIMITS.usable_tokens,
            block_size=_BLOCK,
            max_seqs=_LIMITS.max_seqs,
            read=lambda: stats,
        )
        self._tasks: list[tuple[float, float]] = []  # (start, end) of tasks that ended
        self._open: dict[str, float] = {}  # start of the others, by program
        self._turn_ends: list[float] = []
        self._zero_s = time.monotonic()
        self._until_s = 0.0

    def run(self, seconds: float) -> Outcome:
        self._zero_s, self._until_s = time.monotonic(), seconds
        threads = [threading.Thread(target=self._sessions, daemon=True) for _ in range(self._live)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after_s = seconds / 5
        ended = [end - start for start, end in self._tasks if start >= after_s]
        ages = [seconds - start for start in self._open.values() if after_s <= start < seconds]
        return Outcome((*ended, *ages), sum(after_s <= end <= seconds for end in self._turn_ends))

    def _now_s(self) -> float:
        return time.monotonic() - self._zero_s

    def _sessions(self) -> None:
        while self._now_s() < self._until_s:
            with self._lock:
                number = self._started
                self._started += 1
            self._program(self._order[number % len(self._order)], number)

    def _program(self, program: Program, number: int) -> None:
        session, name = program.sessions[0], f"{number}"
        firsts, lasts = ({getattr(task, end) for task in tasks(session)} for end in ("first", "last"))
        for turn in session.turns:
            time.sleep(min(turn.gap_s if turn.index else 0.0, max(self._until_s - self._now_s(), 0.0)))
            if self._now_s() >= self._until_s:
                return
            if turn.index in firsts:
                self._open[name] = self._now_s()
            if not self._serve(turn, name, number):
                return
            if turn.index in lasts:
                self._tasks.append((self._open.pop(name), self._now_s()))

    def _serve(self, turn: Turn, name: str, number: int) -> bool:
        """One turn through the policy and the engine; False: time was over before it was placed."""
        kind = "human" if not turn.index else turn.gap_kind
        view = TurnView(
            id=f"{name}/{turn.index}",
            program=name,
            session=name,
            parent=None,
            index=turn.index,
            kind=kind,
            runs=turn.runs,
            prompt_tokens=turn.prompt_tokens,
            arrived_s=self._now_s(),
        )
        with self._lock:
            self._waiting[view.id] = view
            self._dispatch()
            while view.id in self._waiting:
                left_s = self._until_s - self._now_s()
                if left_s <= 0:
                    del self._waiting[view.id]
                    return False
                self._lock.wait(left_s)
        placed_s = self._now_s()
        usage = self._post(turn, number)
        ended_s = self._now_s()
        with self._lock:
            self._view.turns -= 1
            self._turn_ends.append(ended_s)
            ended = Ended(
                turn=view,
                replica=0,
                usage=usage,
                placed_s=placed_s,
                first_token_s=ended_s,
                finished_s=ended_s,
            )
            self._policy.on_finish(ended)
            self._dispatch()
        return True

    def _dispatch(self) -> None:
        views, now_s = [self._view], self._now_s()
        for turn in self._policy.order(list(self._waiting.values()), now_s):
            if not self._policy.ready(views, now_s):
                break
            if self._policy.place(turn, views, now_s) is not None:
                del self._waiting[turn.id]
                self._view.turns += 1
        self._lock.notify_all()

    def _post(self, turn: Turn, number: int) -> Usage:
        body = {
            "model": SERVED,
            "prompt": _tokens(turn, number),
            "max_tokens": turn.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        answer = self._engine.client.post("/v1/completions", body)
        assert answer.status == 200, answer.text
        usage = answer.json()["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Usage(
            prompt_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            cached={"local": cached},
        )


def _tokens(turn: Turn, number: int) -> list[int]:
    """Token ids in the tiny model's vocabulary: equal for equal blocks of one instance of a program, else different."""
    found: list[int] = []
    for block in ids(turn.runs):
        chance = random.Random(number * 1_000_003 + block)
        found += chance.choices(range(10, 1010), k=_BLOCK)
    chance = random.Random(f"{number}/{turn.index}")
    return found + chance.choices(range(10, 1010), k=turn.prompt_tokens - len(found))


if __name__ == "__main__":
    main()
