"""Time per event of the program scheduler, and its memory, as live sessions, replicas and held turns grow.

    python benchmarks/scheduler_scale.py [--events 4000] [--sessions 1000 ...] [--replicas 8 ...] [--held 0 ...]
        [--output scheduler_scale.json]

Sessions are four to a run, with prompts of 2,000 to 200,000 tokens; the caches together hold a third of them. Each turn
arrives, has its first token and ends; one in twenty fails, one in fifty is a side request. Held turns are of newcomers for
whom there is no room: `--held` of them wait all the time. Times are CPU microseconds of `handle`, by kind of event.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from agentic_serving.program import events as ev
from agentic_serving.program.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of event at one size."""

    sessions: int
    replicas: int
    held: int
    event: str
    count: int
    p50_us: float
    p99_us: float
    max_us: float


class Load:
    """A scheduler with so many live sessions, and turns of theirs at random."""

    def __init__(self, n_sessions: int, n_replicas: int, seed: int = 42) -> None:
        self.random = Random(seed)  # noqa: S311 - a reproducible workload, no secret
        self.scheduler = Scheduler()
        self.now_s = 0.0
        self.turns = 0
        self.n_held = 0  # more than these do not wait: turns end until they are admitted
        self.in_flight: dict[str, ev.Turn] = {}
        self.held: dict[str, ev.Turn] = {}
        self.times: dict[str, list[int]] = {}
        self.tokens = [self.random.randrange(2_000, 200_000) for _ in range(n_sessions)]
        self.n_replicas = n_replicas
        capacity = max(400_000, sum(self.tokens) // (3 * n_replicas))
        for i in range(n_replicas):
            self.do(ev.ReplicaSeen(name=f"pod-{i}", capacity_tokens=capacity))

    def do(self, event: ev.Event) -> None:
        began_ns = time.thread_time_ns()
        told = self.scheduler.handle(event, self.now_s)
        self.times.setdefault(type(event).__name__, []).append(time.thread_time_ns() - began_ns)
        for one in told:
            if isinstance(one, ev.Admit) and one.turn_id in self.held:
                self.in_flight[one.turn_id] = self.held.pop(one.turn_id)

    def arrive(self, session: str, tokens: int, *, known: int = 0, side: bool = False) -> ev.Turn:
        self.turns += 1
        turn = ev.Turn(
            id=f"turn-{self.turns}",
            program="default",
            run=f"run-{session.split('-')[1]}",
            session=session,
            prompt_tokens=tokens,
            shares=(ev.Share(session, known),) if known else (),
            human=self.random.random() < 0.1,
            side=side,
        )
        self.held[turn.id] = turn  # until it is admitted
        self.do(ev.Arrived(turn))
        return turn

    def turn(self, i: int, step_s: float) -> None:
        """A session's next turn; then what is in flight goes on, so that as many end as begin."""
        self.now_s += step_s
        session, known = f"session-{i // 4}-{i}", self.tokens[i]
        side = self.random.random() < 0.02
        self.arrive(session, known + 500, known=known, side=side)
        while len(self.in_flight) > 2 * self.n_replicas or (len(self.held) > self.n_held and self.in_flight):
            self.finish(next(iter(self.in_flight)))

    def finish(self, turn_id: str) -> None:
        turn = self.in_flight.pop(turn_id)
        if self.random.random() < 0.05:
            self.do(ev.Failed(turn_id))
            return
        self.do(ev.FirstToken(turn_id))
        self.do(
            ev.Ended(turn_id=turn_id, prompt_tokens=turn.prompt_tokens, output_tokens=200, cached_tokens=None)
        )

    def fill(self, spread_s: float) -> None:
        """Every session has had a turn."""
        for i in range(len(self.tokens)):
            self.turn(i, spread_s / len(self.tokens))

    def keep_held(self, n: int) -> None:
        """So many wait: newcomers that fit nowhere."""
        self.n_held = n
        while len(self.held) < n:
            self.arrive(f"session-x{self.turns}-0", 10_000_000)


def rows(n_sessions: int, n_replicas: int, n_held: int, n_events: int) -> Iterable[Row]:
    """Fill, hold, then measure so many turns at 20 a second and replica."""
    load = Load(n_sessions, n_replicas)
    load.fill(spread_s=n_sessions / (20 * n_replicas))  # as fast as they take turns later
    load.keep_held(n_held)
    load.times.clear()
    for n in range(n_events):
        load.turn(load.random.randrange(n_sessions), 0.05 / n_replicas)
        if n % 20 == 0:
            load.do(ev.Tick())
        if n % 50 == 0:
            load.do(ev.RunEnded(f"run-{load.random.randrange(max(1, n_sessions // 4))}"))
    load.do(ev.ReplicaGone("pod-0"))
    load.scheduler.check()
    for name, times in load.times.items():
        ordered = sorted(times)
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        yield Row(n_sessions, n_replicas, n_held, name, len(ordered), p50 / 1e3, p99 / 1e3, ordered[-1] / 1e3)


def bytes_per_session(n_sessions: int, n_replicas: int) -> float:
    """Of the whole scheduler."""
    tracemalloc.start()
    load = Load(n_sessions, n_replicas)
    load.times = {}
    before = tracemalloc.get_traced_memory()[0]
    load.fill(spread_s=n_sessions / (20 * n_replicas))  # as fast as they take turns later
    load.times, load.held, load.in_flight = {}, {}, {}
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / n_sessions


def main() -> None:
    """Measure every combination; table to stdout, and JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=4_000, help="turns per row")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--held", type=int, nargs="+", default=[0, 1_000, 10_000])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found: list[Row] = []
    print("| sessions | replicas | held | event | count | p50 us | p99 us | max us |")
    print("|---|---|---|---|---|---|---|---|")
    for n_sessions in options.sessions:
        for n_replicas in options.replicas:
            for n_held in options.held:
                for row in rows(n_sessions, n_replicas, n_held, options.events):
                    found.append(row)
                    print(
                        f"| {row.sessions} | {row.replicas} | {row.held} | {row.event} | {row.count} "
                        f"| {row.p50_us:.0f} | {row.p99_us:.0f} | {row.max_us:.0f} |",
                        flush=True,
                    )
    memory = {n: bytes_per_session(n, options.replicas[0]) for n in options.sessions}
    for n_sessions, size in memory.items():
        print(f"{n_sessions} sessions: {size:.0f} bytes each")
    if options.output:
        result = {"rows": [asdict(row) for row in found], "bytes_per_session": memory}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
