"""The journal in Valkey: one task reads what is kept, then writes what changes; the request path never waits for it.

Whatever the store does, the scheduler goes on with what it knows. While it is away changes are remembered by name only; when it
is back it gets what is known then, and everything if it lost its data.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from agentic_serving.clock import Clock
from agentic_serving.program.keeping import keep
from agentic_serving.program.keeping.kept import World
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.router.config import Config
from agentic_serving.router.state import records
from agentic_serving.router.state.filling import Filling, uncollected
from agentic_serving.router.state.journal import Journal
from agentic_serving.router.state.keys import BUCKETS, Keys
from agentic_serving.router.state.link import Command, Link, StoreError, WrongType
from agentic_serving.router.state.rounds import Rounds
from agentic_serving.router.state.shared import SharedService
from agentic_serving.router.state.state import Deliver, Known, Loaded

__all__ = ["Valkey"]

_logger = logging.getLogger(__name__)

#: Serving does not wait longer for what is kept.
_LOAD_S = 1.0
#: Between two rounds: what a crash loses, and how late other stacks know of service.
_ROUND_S = 0.1
#: Between attempts while the store is away: doubled from the first to the last.
_BACK_OFF_S = (0.2, 10.0)
#: Buckets that are read in one round trip: 800 sessions of 100,000, about 10 ms.
_READ_BUCKETS = 2
#: Sessions that are brought in before others have a turn: about 2 ms.
_SLICE = 32
_LEAST_TTL_S = 3600.0
_NOT_ASKED = "the store has not been asked yet"


class _Superseded(StoreError):
    """Another process is the active one."""


class Valkey:
    """See `State`. `healthy`: the last round did what it should."""

    def __init__(self, config: Config, password: str | None, clock: Clock) -> None:
        if config.valkey is None:
            raise ValueError("no store is configured")
        self.service = SharedService()
        self.journal = Journal()
        self.problem = _NOT_ASKED
        self._clock = clock
        self._keys = Keys(config.namespace, config.stack)
        self._idle_s = max((program.idle_s for program in config.programs), default=1800.0)
        self._link = Link(config.valkey.address, tls=config.valkey.tls, password=password)
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._loaded = asyncio.Event()
        self._desk: Known | None = None
        self._deliver: Deliver = lambda _words: None
        self._filling: Filling | None = None
        self._filled: Scheduler | None = None
        self._rounds: Rounds | None = None
        self._even_s = clock.monotonic_s()  # when all that had changed was written, the last time
        self._epoch = 0
        self._sweep: list[int] = []  # buckets to look through for sessions that are over
        self._counts = dict.fromkeys(("written", "rounds", "reconnects", "restored", "refused"), 0)

    @property
    def healthy(self) -> bool:
        return not self.problem

    @property
    def counters(self) -> Mapping[str, float]:
        filling, waits = self._filling, len(self.journal)
        return {
            **self._counts,
            "restored": self._counts["restored"] + (filling.restored if filling else 0),
            "refused": self._counts["refused"] + (filling.refused if filling else 0),
            "pending": waits,
            "healthy": float(self.problem in ("", _NOT_ASKED)),
            "lag_s": self._clock.monotonic_s() - self._even_s if waits else 0.0,
            "dropped": self.journal.dropped,
            "to_restore": filling.pending if filling else 0,
        }

    async def load(self, desk: Known, deliver: Deliver) -> Loaded:
        await self.release()
        began_s = self._clock.monotonic_s()
        self._desk, self._deliver = desk, deliver
        self._stop.clear()
        self._loaded.clear()
        self._task = asyncio.create_task(self._work(self._world(desk)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), _LOAD_S)
        return Loaded(
            restored=int(self.counters["restored"]),
            pending=int(self.counters["to_restore"]),
            took_s=self._clock.monotonic_s() - began_s,
        )

    async def release(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._stop.set()
        try:
            await asyncio.wait_for(task, _LOAD_S)  # the last rounds; cancelled if they take longer
        except TimeoutError:
            await self._link.close()
        self._fill_done()
        self.journal.clear()

    async def close(self) -> None:
        await self.release()
        await self._link.close()

    def _world(self, desk: Known) -> World:
        return World(
            scheduler=desk.scheduler,
            sessions=desk.sessions,
            graph=desk.graph_of,
            make_graph=desk.graph_of,
            rates=desk.rates,
        )

    async def _work(self, world: World) -> None:
        """Until released: join, then a round each tenth of a second."""
        back_off_s, joined = _BACK_OFF_S[0], False
        while not self._stop.is_set():
            wait_s = _ROUND_S
            try:
                if not joined:
                    await self._join(world)
                    joined = True
                await self._round()
                back_off_s = self._recovered()
                if self._rounds is not None and self._rounds.more:
                    wait_s = 0.0
            except _Superseded as error:
                self._failed(error)
                self._fill_done()
                return
            except StoreError as error:
                self._failed(error)
                wait_s, back_off_s = back_off_s, min(2 * back_off_s, _BACK_OFF_S[1])
                if isinstance(error, WrongType):
                    await self._wipe()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)
        if joined and self._rounds is not None:
            self._rounds.finish()
            with contextlib.suppress(StoreError):
                while await self._round():
                    pass

    async def _join(self, world: World) -> None:
        """Become the one that writes, and read what is there."""
        keys = self._keys
        epoch, kept_format = await self._link.ask(
            [("HINCRBY", keys.meta, "epoch", 1), ("HGET", keys.meta, "format")]
        )
        rounds = Rounds(
            world, self.journal, self.service, keys, self._clock, max(_LEAST_TTL_S, 2 * self._idle_s)
        )
        offset_s, now_s = rounds.offset_s(), self._clock.monotonic_s()
        self.service.offset_s = offset_s
        again = self._filled is world.scheduler
        filling = Filling(world, offset_s=offset_s, now_s=now_s, idle_s=self._idle_s, again=again)
        self.journal.mark(keep.sessions(world))
        with uncollected():
            if kept_format == records.FORMAT.encode():
                await self._read(filling)
            elif kept_format is not None:
                await self._link.ask([("UNLINK", *keys.all()[1:])])
            await self._link.ask([("HSET", keys.meta, "format", records.FORMAT)])
            self._epoch, self._rounds = int(epoch), rounds
            await self._fill(filling)
        self._filled = world.scheduler

    async def _read(self, filling: Filling) -> None:
        try:
            (text,) = await self._link.ask([("GET", self._keys.learned)])
        except WrongType:  # the next one overwrites it, whatever it is
            text = b""
        if text is not None:
            filling.learned(text)
        for first in range(0, BUCKETS, _READ_BUCKETS):
            several: list[Command] = [
                ("HVALS", self._keys.bucket(number)) for number in range(first, first + _READ_BUCKETS)
            ]
            for found in await self._link.ask(several):
                filling.add(found)
            await asyncio.sleep(0)

    async def _fill(self, filling: Filling) -> None:
        """All sessions, in slices; `load` has gone on meanwhile if that takes long."""
        self._filling = filling
        if self._desk is not None:
            self._desk.recall = filling.recaller(self._clock.monotonic_s)
        for _ in filling.slices(_SLICE, self._clock.monotonic_s):
            await asyncio.sleep(0)
        if self._desk is not None:
            self._desk.recall = None
        self._sweep = list(range(BUCKETS))
        self._recovered()
        self._loaded.set()

    def _fill_done(self) -> None:
        filling, self._filling = self._filling, None
        if self._desk is not None:
            self._desk.recall = None
        if filling is not None:
            self._counts["restored"] += filling.restored
            self._counts["refused"] += filling.refused

    async def _round(self) -> int:
        """How much went out."""
        rounds = self._rounds
        if rounds is None:
            return 0
        if self._filling is not None and self._filling.finish(self._clock.monotonic_s()):
            self._fill_done()
        self.service.offset_s = rounds.offset_s()
        began_s = self._clock.monotonic_s()
        batch = await rounds.batch()
        try:
            replies = await self._link.ask(batch.commands)
        except StoreError:
            rounds.failed(batch)
            raise
        await self._check_epoch(replies, rounds)
        rounds.written(batch)
        self._counts["written"] += len(batch)
        self._counts["rounds"] += 1
        if batch.whole:
            self._even_s = began_s
        self._end(rounds.heard(replies[-1]))
        await self._swept()
        return len(batch)

    async def _check_epoch(self, replies: list[object], rounds: Rounds) -> None:
        """Whether the store still has what it was given, and whether it is still ours to give."""
        there, epoch = replies[:2]
        if not there:
            _logger.warning("the store of the journal has lost its data: writing it again")
            meta = ("HSET", self._keys.meta, "format", records.FORMAT, "epoch", self._epoch)
            await self._link.ask([meta])
            rounds.lost()
        elif epoch != str(self._epoch).encode():
            raise _Superseded("another process has taken over the journal of this stack")

    def _end(self, runs: list[str]) -> None:
        """Runs that are over elsewhere are over here."""
        if self._desk is None or not runs:
            return
        self.journal.quietly(quiet=True)
        try:
            for run in runs:
                self._deliver(self._desk.end_run(run, self._clock.monotonic_s()))
        finally:
            self.journal.quietly(quiet=False)

    async def _swept(self) -> None:
        """Sessions in the store that are over: their ends were dropped, or nobody was there to tell of them."""
        if self.journal.overflowed and self._rounds is not None:
            self.journal.overflowed = False
            self._sweep = list(range(BUCKETS))
            self._rounds.lost()
        if not self._sweep or self._desk is None or self._filling is not None:
            return
        key = self._keys.bucket(self._sweep.pop())
        (names,) = await self._link.ask([("HKEYS", key)])
        sessions = self._desk.sessions
        over = [name for name in names if name.decode("utf-8", "replace") not in sessions]
        if over:
            await self._link.ask([("HDEL", key, *over)])

    async def _wipe(self) -> None:
        """Keys of ours that others have written to are made anew: the next round finds them lost."""
        with contextlib.suppress(StoreError):
            await self._link.ask([("UNLINK", *self._keys.all(), self._keys.stream)])

    def _failed(self, error: StoreError) -> None:
        self._loaded.set()  # there is nothing to wait for
        if str(error) != self.problem:
            _logger.warning("the journal is not written: %s; serving goes on with what is known", error)
        self.problem = str(error)

    def _recovered(self) -> float:
        """The wait before a next first attempt."""
        if self.problem not in ("", _NOT_ASKED):
            self._counts["reconnects"] += 1
            _logger.info("the journal is written again")
        self.problem = ""
        return _BACK_OFF_S[0]
