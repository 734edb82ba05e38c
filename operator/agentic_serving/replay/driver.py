"""`replay`: programs onto an endpoint, closed loop (slots) or open loop (arrival times), until they or the time are over."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from random import Random

import aiohttp

from agentic_serving.clock import Clock, SystemClock
from agentic_serving.errors import InvalidInput
from agentic_serving.replay.calibrate import measure
from agentic_serving.replay.clients import CLIENT_APIS, CLIENTS, Client, Identity
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import (
    Calibrated,
    Event,
    OnEvent,
    ProgramEnded,
    ProgramStarted,
    TurnEnded,
    TurnRecord,
    TurnStarted,
)
from agentic_serving.replay.report import Report, check_baseline, report
from agentic_serving.replay.session import Lap, run_program
from agentic_serving.replay.text import Scale
from agentic_serving.replay.transport import Transport
from agentic_serving.workload import Program

__all__ = ["replay", "select"]


async def replay(
    programs: Sequence[Program],
    options: Options,
    *,
    on_event: OnEvent = lambda _: None,
    baseline: Report | None = None,
    stop: asyncio.Event | None = None,
    clock: Clock | None = None,
) -> Report:
    """Replay programs and report.

    Args:
        programs: from `workload.read`; `select` is applied to them.
        on_event: called in the event loop as things happen; must not block.
        stop: when set, no new turn starts, and the replay ends as after its duration.
        baseline: report of the same programs on an unloaded endpoint: gives slowdowns.

    Raises:
        InvalidInput: there is nothing to replay, the baseline does not fit, or the endpoint cannot be used.
    """
    if baseline is not None:
        check_baseline(options, baseline)
    chosen = select(programs, options)
    driver = _Driver(chosen, options, on_event, clock or SystemClock(), stop or asyncio.Event())
    await driver.run()
    return report(driver.records, options, driver.outline(), baseline=baseline)


def select(programs: Sequence[Program], options: Options) -> tuple[Program, ...]:
    """The programs that will be replayed: `--sessions` many, drawn by the seed unless it is 0."""
    if not programs:
        raise InvalidInput("TRACE", "holds no program")
    chosen = list(programs)
    if options.seed and options.sessions is not None:
        Random(options.seed).shuffle(chosen)  # noqa: S311 - a choice of traces, not a secret
    return tuple(chosen[: options.sessions])


class _Driver:
    """A replay under way."""

    def __init__(
        self,
        programs: tuple[Program, ...],
        options: Options,
        on_event: OnEvent,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        self._programs, self._options, self._tell, self._clock = programs, options, on_event, clock
        self._stop = stop
        self._scale = Scale()
        self._started_s = 0.0
        self._cut = self._in_flight = 0
        self.records: list[TurnRecord] = []

    async def run(self) -> None:
        """Calibrate, then all programs."""
        rng = Random(self._options.seed)  # noqa: S311 - back-off, not a secret
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**18) as http:
            transport = Transport(http, self._options, self._clock, rng)
            self._scale = Scale(
                token_scale=self._options.token_scale, tokens_per_word=await self._tokens_per_word(transport)
            )
            self._tell(Calibrated(self._scale.tokens_per_word))
            self._started_s = self._clock.monotonic_s()
            await self._until_stopped(transport)

    def outline(self) -> dict[str, float | int]:
        """What the report says of the run as a whole."""
        return {
            "programs": len(self._programs),
            "programsCut": self._cut,
            "turnsDropped": self._in_flight,
            "tokensPerWord": round(self._scale.tokens_per_word, 4),
            "wallSeconds": round(self._clock.monotonic_s() - self._started_s, 3),
        }

    async def _tokens_per_word(self, transport: Transport) -> float:
        client = self._client(0)
        api = self._options.api or CLIENT_APIS[client]
        identity = Identity(
            client=client, run="calibration", session="calibration", root="calibration", parent=None
        )
        measured = await measure(transport, self._options, api, identity)
        return self._options.tokens_per_word or measured

    async def _until_stopped(self, transport: Transport) -> None:
        """Run the programs; after `duration_s` nothing new starts, and `stop_s` later what still runs is dropped."""
        work = asyncio.create_task(self._all(transport))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait(
                {work, stopped}, timeout=self._options.duration_s, return_when=asyncio.FIRST_COMPLETED
            )
            self._stop.set()
            await asyncio.wait({work}, timeout=self._options.stop_s)
        finally:
            work.cancel()  # without effect on what is done
            stopped.cancel()
        await asyncio.wait({work})
        if not work.cancelled():
            work.result()

    async def _all(self, transport: Transport) -> None:
        opened = [(i, p) for i, p in enumerate(self._programs) if p.open_loop]
        closed = [(i, p) for i, p in enumerate(self._programs) if not p.open_loop]
        queue = self._queue(closed)
        async with asyncio.TaskGroup() as group:
            for index, program in opened:
                group.create_task(self._arriving(transport, index, program))
            for _ in range(self._options.concurrency if closed else 0):
                group.create_task(self._slot(transport, queue))

    def _queue(self, closed: Sequence[tuple[int, Program]]) -> Callable[[], tuple[int, int, Program] | None]:
        """The next (lap, index, program); with a duration they begin again, else None after the last."""
        laps = count() if self._options.duration_s is not None else range(1)
        waiting = ((lap, index, program) for lap in laps for index, program in closed)
        return lambda: next(waiting, None)

    async def _slot(self, transport: Transport, queue: Callable[[], tuple[int, int, Program] | None]) -> None:
        while not self._stop.is_set() and (following := queue()) is not None:
            lap, index, program = following
            await self._program(transport, index, program, lap)

    async def _arriving(self, transport: Transport, index: int, program: Program) -> None:
        due_s = self._started_s + program.start_s * self._options.time_scale
        wait_s = due_s - self._clock.monotonic_s()
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._stop.wait()
            except TimeoutError:
                pass
        if not self._stop.is_set():
            await self._program(transport, index, program, 0)

    async def _program(self, transport: Transport, index: int, program: Program, lap: int) -> None:
        n_turns = sum(len(s.turns) for s in program.sessions)
        self._tell(ProgramStarted(program.id, lap, len(program.sessions), n_turns))
        whole = False
        try:
            whole = await run_program(
                Lap(
                    program=program,
                    number=lap,
                    client=self._client(index + lap),
                    options=self._options,
                    scale=self._scale,
                    transport=transport,
                    clock=self._clock,
                    start_s=self._started_s,
                    stop=self._stop,
                    on_event=self._note,
                )
            )
        finally:
            self._cut += not whole
            self._tell(ProgramEnded(program.id, lap, whole))

    def _client(self, index: int) -> Client:
        return CLIENTS[index % len(CLIENTS)] if self._options.client == "mixed" else self._options.client

    def _note(self, event: Event) -> None:
        if isinstance(event, TurnStarted):
            self._in_flight += 1
        elif isinstance(event, TurnEnded):
            self.records.append(event.record)
            self._in_flight -= event.record.kind == "turn"
        self._tell(event)
