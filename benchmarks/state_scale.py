"""What the journal costs: to write a session, to read it again, in the store and until a new process serves.

    python benchmarks/state_scale.py [--sessions 100000] [--blocks 45] [--store HOST:PORT] [--output FILE]

Sessions of one turn each, with prompts of so many blocks, on eight replicas that hold them all. Times are CPU microseconds a session.
With a store, which must be empty and is left so, two processes' worth of scheduler are run one after the other: the
first writes all, the second takes over. `pause_ms` is the longest stretch of CPU time for which
anything else on the loop waited meanwhile.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import valkey

from agentic_serving.clock import SystemClock
from agentic_serving.program import events as ev
from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.hashing import chained, content_hash
from agentic_serving.program.identity import Identity
from agentic_serving.program.keeping import keep
from agentic_serving.program.keeping.kept import World
from agentic_serving.program.normalise import Part
from agentic_serving.program.prompt import Prompt
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.service import Service
from agentic_serving.program.sessions import Sessions
from agentic_serving.router.config import Config, Valkey
from agentic_serving.router.state import State, open_state, records
from agentic_serving.router.state.filling import Filling
from agentic_serving.router.state.keys import Keys

_REPLICAS = 8
_BLOCK_BYTES = 700
_SYSTEM = Part("System", "", b"")
_TURN = Part("Turn", "user", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """None: there was no store."""

    sessions: int
    blocks: int
    record_bytes: int
    write_us: float
    read_us: float
    stored_bytes: int | None = None
    serving_s: float | None = None
    whole_s: float | None = None
    pause_ms: float | None = None
    pause_p99_ms: float | None = None


class Desk:
    """What `router.state` needs of one."""

    def __init__(self, n_sessions: int, blocks: int, service: Service | None = None) -> None:
        self.scheduler = Scheduler(service=service)
        self.sessions = Sessions()
        self.rates: dict[str, TokenRate] = {}
        self.recall = None
        self._graphs: dict[str, SessionGraph] = {}
        capacity = n_sessions * (blocks + 2) * _BLOCK_BYTES
        for i in range(_REPLICAS):
            self.scheduler.handle(ev.ReplicaSeen(name=f"engine-{i}", capacity_tokens=capacity), 0.0)

    def graph_of(self, run: str) -> SessionGraph:
        return self._graphs.setdefault(run, SessionGraph())

    def end_run(self, run: str, now_s: float) -> Sequence[ev.Instruction]:  # noqa: ARG002 - none ends
        return ()

    @property
    def world(self) -> World:
        return World(
            scheduler=self.scheduler,
            sessions=self.sessions,
            graph=self.graph_of,
            make_graph=self.graph_of,
            rates=self.rates,
        )

    def serve(self, name: str, blocks: int, now_s: float) -> None:
        """A session's first turn."""
        prompt, chain = Prompt(), 0
        for i in range(blocks):
            content = content_hash("Turn", f"{name if i else ''}{i}".encode())
            chain = chained(chain, content)
            prompt.append(_TURN if i else _SYSTEM, content, chain, _BLOCK_BYTES)
        identity = Identity(program="default", client="generic", api="chat", session=name, confidence=1.0)
        arrival = self.sessions.arrive(identity, now_s, chain=chain)
        self.graph_of(arrival.run).observe(name, prompt, now_s)
        turn = ev.Turn(
            id=name,
            program="default",
            run=arrival.run,
            session=name,
            prompt_tokens=prompt.n_bytes,
            human=True,
        )
        self.scheduler.handle(ev.Arrived(turn), now_s)
        self.scheduler.handle(ev.FirstToken(name), now_s)
        self.scheduler.handle(
            ev.Ended(turn_id=name, prompt_tokens=turn.prompt_tokens, output_tokens=500), now_s
        )
        self.sessions.finish(name, now_s, computed_tokens=turn.prompt_tokens)


def names(n_sessions: int) -> list[str]:
    """As long as those that clients send."""
    return [f"default/{i:036d}" for i in range(n_sessions)]


def in_memory(n_sessions: int, blocks: int) -> Result:
    """Of at most 20,000 sessions: what one costs does not depend on how many there are."""
    some = min(n_sessions, 20_000)
    desk, now_s = Desk(some, blocks), time.monotonic()
    for name in names(some):
        desk.serve(name, blocks, now_s)
    began_s = time.thread_time()
    pieces = [keep.session(desk.world, name) for name in names(some)]
    raw = [records.encode(piece, 0.0) for piece in pieces if piece is not None]
    written_s = time.thread_time()
    filling = Filling(Desk(some, blocks).world, offset_s=0.0, now_s=now_s, idle_s=1800.0)
    filling.add(raw)
    for _ in filling.slices(32, time.monotonic):
        pass
    read_s = time.thread_time()
    return Result(
        sessions=n_sessions,
        blocks=blocks,
        record_bytes=sum(map(len, raw)) // some,
        write_us=1e6 * (written_s - began_s) / some,
        read_us=1e6 * (read_s - written_s) / some,
    )


async def with_store(n_sessions: int, blocks: int, address: str) -> dict[str, float]:
    config = Config(namespace="benchmark", stack="state", mode="Enforce", valkey=Valkey(address=address))
    host, _, port = address.partition(":")
    client = valkey.Valkey(host=host, port=int(port))
    before = client.info("memory")["used_memory"]
    state = open_state(config, None, SystemClock())
    desk = Desk(n_sessions, blocks, state.service)
    await state.load(desk, lambda _words: None)
    for i, name in enumerate(names(n_sessions)):
        desk.serve(name, blocks, time.monotonic())
        state.journal.mark([name])  # type: ignore[attr-defined]  # the journal of a store
        if i % 50 == 0:
            await asyncio.sleep(0)
    await written(state)
    await state.close()
    stored = (client.info("memory")["used_memory"] - before) // n_sessions
    second = open_state(config, None, SystemClock())
    del desk, state
    fresh = Desk(n_sessions, blocks, second.service)
    pauses: list[float] = []
    watch = asyncio.create_task(watching(pauses))
    began_s = time.monotonic()
    loaded = await second.load(fresh, lambda _words: None)
    while second.counters["to_restore"] or len(fresh.sessions) < n_sessions:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.05)
    whole_s = time.monotonic() - began_s
    watch.cancel()
    await second.close()
    keys = Keys("benchmark", "state")
    client.delete(*keys.all(), keys.stream)
    return {
        "stored_bytes": stored,
        "serving_s": loaded.took_s,
        "whole_s": whole_s,
        "pause_ms": 1000 * max(pauses),
        "pause_p99_ms": 1000 * sorted(pauses)[int(0.99 * len(pauses))],
    }


async def written(state: State) -> None:
    while state.counters["pending"]:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.1)


async def watching(pauses: list[float]) -> None:
    while True:
        began_s = time.thread_time()
        await asyncio.sleep(0)
        pauses.append(time.thread_time() - began_s)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=45)
    parser.add_argument("--store", default="")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    result = asdict(in_memory(given.sessions, given.blocks))
    if given.store:
        result |= asyncio.run(with_store(given.sessions, given.blocks, given.store))
    text = json.dumps(result, indent=1)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
