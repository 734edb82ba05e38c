"""The session graph's cost a turn: parsing a body, reading its blocks, observing them; and memory a session.

    python -m benchmarks.session_graph                              the shared sample (about 20 seconds)
    python -m benchmarks.session_graph --traces FOLDER --sessions 20

Bodies of recorded sessions, as `agentic-serving replay` writes them, at their recorded size: about 5 bytes a token. Times depend on the
machine, so each is printed as a multiple of parsing the same body with orjson in the same run as well.
"""

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from agentic_serving.program.blocks import Memo, blocks_of
from agentic_serving.program.graph import SessionGraph
from agentic_serving.replay.bodies import Api, BodyOptions, body
from agentic_serving.replay.conversation import SessionText
from agentic_serving.replay.text import Scale
from agentic_serving.workload import Program, Session, read

_SAMPLE = Path(__file__).parents[1] / "tests" / "traces" / "claude_code.jsonl"
_TURNS = 45  # the median session's length, to which the memory target belongs
_APIS: tuple[Api, ...] = ("messages", "chat", "responses")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn. CPU time in ms: waiting for a busy core is none of it."""

    n_bytes: int
    blocks: int
    parse: float
    whole: float  # blocks, nothing known of the session
    next: float  # blocks, with the last turn's
    observe: float


def _bodies(program: Program, session: Session, api: Api) -> Iterator[bytes]:
    text = SessionText(program, session, Scale())
    for index in range(min(len(session.turns), _TURNS)):
        yield orjson.dumps(body(api, text.turn(index), BodyOptions(model="m", max_tokens=1)))


def _timed(do: Callable[[], _T]) -> tuple[_T, float]:
    started_s = time.process_time()
    made = do()
    return made, (time.process_time() - started_s) * 1000


def _steps(program: Program, session: Session, api: Api) -> Iterator[Step]:
    graph, memo = SessionGraph(), Memo()
    for i, raw in enumerate(_bodies(program, session, api)):
        parsed, parse = _timed(lambda raw=raw: orjson.loads(raw))  # type: ignore[misc]  # bound early on purpose
        blocks, whole = _timed(lambda parsed=parsed: blocks_of(parsed))  # type: ignore[misc]
        again, known = _timed(lambda parsed=parsed: blocks_of(parsed, memo=memo))  # type: ignore[misc]
        assert again == blocks
        _, observe = _timed(lambda again=again, i=i: graph.observe(session.id, again, float(i)))  # type: ignore[misc]
        if i:  # a first turn has nothing to go on from
            yield Step(
                n_bytes=len(raw), blocks=len(blocks), parse=parse, whole=whole, next=known, observe=observe
            )


def _memory(program: Program, session: Session, api: Api) -> tuple[int, int]:
    """Bytes of graph and memo with this session, more than without; its blocks."""
    turns = [orjson.loads(raw) for raw in list(_bodies(program, session, api))[-2:]]
    graph = SessionGraph()
    gc.collect()
    tracemalloc.start()
    memo = Memo()
    for i, turn in enumerate(turns):
        graph.observe(session.id, blocks_of(turn, memo=memo), float(i))
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used, len(memo.prompt)


def _centiles(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def _report(api: Api, steps: Sequence[Step], memory: Sequence[tuple[int, int]]) -> dict[str, object]:
    sizes, blocks = [s.n_bytes for s in steps], [s.blocks for s in steps]
    print(
        f"{api}: {len(steps)} turns, median {statistics.median(sizes) / 1000:.0f} KB in {statistics.median(blocks):.0f} blocks"
    )
    found: dict[str, object] = {"api": api, "turns": len(steps)}
    for name in ("parse", "whole", "next", "observe"):
        p50, p99 = _centiles([getattr(s, name) for s in steps])
        ratio50, ratio99 = _centiles([getattr(s, name) / s.parse for s in steps])
        print(
            f"  {name:8} p50 {p50:6.3f} ms, p99 {p99:6.3f} ms; times parsing: p50 {ratio50:5.2f}, p99 {ratio99:5.2f}"
        )
        found[name] = {"p50_ms": p50, "p99_ms": p99, "p50_ratio": ratio50, "p99_ratio": ratio99}
    total50, total99 = _centiles([s.parse + s.next + s.observe for s in steps])
    print(f"  a turn   p50 {total50:6.3f} ms, p99 {total99:6.3f} ms (parse, next, observe)")
    used = [n for n, _ in memory]
    if used:
        n_blocks = statistics.median(n for _, n in memory)
        print(
            f"  memory   median {statistics.median(used):.0f}, most {max(used)} bytes a session after {_TURNS} turns; {n_blocks:.0f} blocks"
        )
    return {**found, "memory_bytes": used, "memory_blocks": [n for _, n in memory]}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, default=_SAMPLE)
    parser.add_argument("--sessions", type=int, default=4, help="the longest ones, up to 45 turns of each")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    given = parser.parse_args(arguments)
    sessions = sorted(
        ((p, s) for p in read(given.traces) for s in p.sessions if not s.turns[0].messages),
        key=lambda pair: -min(len(pair[1].turns), _TURNS),
    )[: given.sessions]
    reports = []
    for api in _APIS:
        steps = [step for program, session in sessions for step in _steps(program, session, api)]
        memory = [_memory(p, s, api) for p, s in sessions if len(s.turns) >= _TURNS]
        reports.append(_report(api, steps, memory))
    if given.out:
        given.out.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
