"""Time per operation of the ledger and the gap model, and memory per session, as live sessions and replicas grow.

    python benchmarks/ledger_scale.py [--operations 20000] [--sessions 1000 ...] [--replicas 8 ...]

Each session's prompts are 2,000 to 200,000 tokens; the caches together hold a third of all sessions, so that most turns
evict. One table row per number of sessions and replicas; times are CPU microseconds, p50 / p99.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import TypeVar

from agentic_serving.program.gaps import GapModel
from agentic_serving.program.ledger import Ledger

T = TypeVar("T")
TOOLS = ("Bash", "Read", "Edit", "Grep", "human")


class Load:
    """Sessions that take turns at random."""

    def __init__(self, n_sessions: int, n_replicas: int, seed: int = 42) -> None:
        self.random = Random(seed)  # noqa: S311 - a reproducible workload, no secret
        self.sessions = [f"run-{i // 4}/session-{i}" for i in range(n_sessions)]
        self.tokens = [self.random.randrange(2_000, 200_000) for _ in range(n_sessions)]
        self.replicas = [f"pod-{i}" for i in range(n_replicas)]
        self.gaps = GapModel()
        self.ledger = Ledger()
        for name in self.replicas:
            self.ledger.replica(name, max(400_000, sum(self.tokens) // (3 * n_replicas)))
        self.now_s = 0.0
        self.times: dict[str, list[int]] = {}

    def fill(self) -> None:
        for i in range(len(self.sessions)):
            self.turn(i)
        self.times.clear()

    def turn(self, i: int) -> None:
        """One turn where it is warm, one in ten elsewhere; one in twenty forks, one in fifty is cancelled."""
        session, ledger, random = self.sessions[i], self.ledger, self.random
        self.now_s += 0.01
        where = self.timed("where", lambda: ledger.where(session))
        name = next(iter(where), "") if random.random() > 0.1 else ""
        name = name or random.choice(self.replicas)
        warm = self.timed("warm", lambda: ledger.warm(session, name))
        prompt = self.tokens[i]
        shared = (random.choice(self.sessions), prompt // 2) if random.random() < 0.05 else None
        self.timed("begin", lambda: ledger.begin(session, name, prompt, self.now_s, shared))
        if random.random() < 0.02:
            self.timed("cancel", lambda: ledger.cancel(session, name, self.now_s))
            return
        cause, gap_s = random.choice(TOOLS), random.lognormvariate(1, 2)
        hit = min(warm, prompt)
        self.timed("end", lambda: self.end(session, name, prompt + 300, hit))
        self.timed("learn", lambda: self.gaps.learn("default", cause, gap_s))
        self.timed("chance", lambda: self.gaps.chance("default", cause, gap_s, 60))

    def end(self, session: str, name: str, tokens: int, hit: int) -> None:
        self.ledger.end(session, name, tokens, self.now_s, cached=hit, expected=hit)

    def timed(self, name: str, call: Callable[[], T]) -> T:
        start = time.thread_time_ns()
        result = call()
        self.times.setdefault(name, []).append(time.thread_time_ns() - start)
        return result


def row(n_sessions: int, n_replicas: int, operations: int) -> str:
    load = Load(n_sessions, n_replicas)
    load.fill()
    for _ in range(operations):
        load.turn(load.random.randrange(n_sessions))
    cells = []
    for values in load.times.values():
        values.sort()
        cells.append(f"{values[len(values) // 2] / 1000:.1f} / {values[len(values) * 99 // 100] / 1000:.1f}")
    return " | ".join([f"{n_sessions:,}", str(n_replicas), *cells, f"{memory(n_sessions, n_replicas):,.0f}"])


def memory(n_sessions: int, n_replicas: int) -> float:
    """Bytes per live session, names included once."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    load = Load(n_sessions, n_replicas)
    base, _ = tracemalloc.get_traced_memory()
    load.fill()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert before <= base
    return (after - base) / n_sessions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 64])
    asked = parser.parse_args()
    print("sessions | replicas | where | warm | begin | end | learn | chance | cancel | bytes per session")
    for n_sessions in asked.sessions:
        for n_replicas in asked.replicas:
            print(row(n_sessions, n_replicas, asked.operations), flush=True)


if __name__ == "__main__":
    main()
