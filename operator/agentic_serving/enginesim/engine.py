"""The replica model in real time: requests in, tokens out as the simulated steps end.

One task runs the steps; each request has a queue of its own. Time comes from a pacer, so the same engine runs at any
speed, and without waiting in tests.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentic_serving.capacity.runs import Interner
from agentic_serving.enginesim.hashing import block_hashes
from agentic_serving.enginesim.pace import Pacer
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.types import Finished, Outcome, Request, Step, Usage

__all__ = ["Engine", "Handle", "Job", "Observer", "Settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, ready to run."""

    id: str
    prompt: Sequence[int]
    output: Sequence[int]  # all of the answer; it is served as far as the request gets
    priority: int = 0
    salt: str = ""
    remote_tokens: int = 0  # of the prompt, held by a prefill engine
    hold_kv: bool = False  # keep the blocks after the end, for a decode engine
    max_tokens: int | None = None  # as asked
    finish: str = "stop"  # why the answer ends where it does
    source: Mapping[str, Any] = field(default_factory=dict)  # kv_transfer_params
    hashes: Sequence[bytes] = ()  # of the full blocks; the engine fills them in


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a request ended."""

    finished: Finished | None  # None: aborted

    @property
    def usage(self) -> Usage | None:
        return self.finished.usage if self.finished else None


class Observer:
    """What happens in the engine, for metrics and events. Every method may be left as it is."""

    def admitted(self, job: Job) -> None: ...

    def stepped(self, step: Step, outcome: Outcome) -> None: ...

    def finished(self, job: Job, finished: Finished) -> None: ...

    def aborted(self, job: Job) -> None: ...

    def rejected(self) -> None: ...


@dataclass(slots=True, eq=False)
class Handle:
    """A running request."""

    job: Job
    queue: asyncio.Queue[int | Settled] = field(default_factory=asyncio.Queue)
    settled: Settled | None = None
    done_tokens: int = 0
    cached: Mapping[str, int] = field(default_factory=dict)  # prompt tokens by source, once admitted

    async def tokens(self) -> AsyncIterator[int]:
        """Numbers of new tokens, as they come, until the end.

        All that has come in the meantime is taken together, as vLLM merges what a slow client has not read.
        """
        while self.settled is None:
            count = self._take(await self.queue.get())
            while self.settled is None and not self.queue.empty():
                count += self._take(self.queue.get_nowait())
            if count:
                self.done_tokens += count
                yield count

    def _take(self, item: int | Settled) -> int:
        if isinstance(item, Settled):
            self.settled = item
            return 0
        return item


class Engine:
    """Continuous batching in (scaled) real time.

    Args:
        lookup: asked before a request is admitted, with the hashes of its prompt's blocks: where tiers outside this
            process refresh what they know.
    """

    def __init__(
        self,
        replica: Replica,
        pacer: Pacer,
        *,
        names: Interner,
        block_tokens: int,
        hash_algorithm: str = "sha256",
        observers: Sequence[Observer] = (),
        lookup: Callable[[Sequence[bytes]], Awaitable[None]] | None = None,
    ) -> None:
        self.replica = replica
        self._pacer = pacer
        self._names = names
        self._block_tokens = block_tokens
        self._algorithm = hash_algorithm
        self._observers = list(observers)
        self._lookup = lookup
        self._live: dict[str, Handle] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def names(self) -> Interner:
        return self._names

    def now_s(self) -> float:
        """Simulated seconds."""
        return self._pacer.now_s()

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def live(self) -> Mapping[str, Handle]:
        """Requests that wait or run."""
        return self._live

    async def submit(self, job: Job) -> Handle:
        """Start a request.

        Raises:
            InvalidInput: it can never fit.
        """
        hashes = block_hashes(
            [*job.prompt, *job.output], self._block_tokens, algorithm=self._algorithm, salt=job.salt
        )
        if self._lookup is not None:
            await self._lookup(hashes[: len(job.prompt) // self._block_tokens])
        request = Request(
            id=job.id,
            runs=self._names.runs(hashes),
            prompt_tokens=len(job.prompt),
            output_tokens=len(job.output),
            priority=job.priority,
            remote_tokens=job.remote_tokens,
            hold_kv=job.hold_kv,
        )
        self.replica.admit(request, self._pacer.now_s())
        job = replace(job, hashes=hashes)
        handle = Handle(job)
        self._live[job.id] = handle
        self._idle.clear()
        for observer in self._observers:
            observer.admitted(job)
        self._changed.set()
        return handle

    def abort(self, handle: Handle) -> None:
        """End a request whose client has gone; nothing happens if it has ended."""
        if self._live.pop(handle.job.id, None) is None:
            return
        self.replica.abort(handle.job.id, self._pacer.now_s())
        handle.queue.put_nowait(Settled(finished=None))
        for observer in self._observers:
            observer.aborted(handle.job)
        self._after_change()

    def reject(self) -> None:
        """A request was turned away, as the queue is full."""
        for observer in self._observers:
            observer.rejected()

    def release(self, request_id: str) -> bool:
        """Free the blocks that a finished prefill holds; False: it holds none (any more)."""
        released = self.replica.release(request_id, self._pacer.now_s())
        self._after_change()
        return released

    def reset(self) -> bool:
        """Forget all cached blocks; False while blocks are in use."""
        return self.replica.reset(self._pacer.now_s())

    def abort_all(self) -> None:
        """What `--shutdown-timeout 0` does at SIGTERM."""
        for handle in list(self._live.values()):
            self.abort(handle)

    async def drained(self) -> None:
        """Return when no request is left."""
        await self._idle.wait()

    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            step = self.replica.begin(max(self._pacer.now_s(), self.replica.busy_until_s))
            if step is None:
                self._changed.clear()
                await self._pacer.wait(self._changed, self.replica.wake_s)
                continue
            await self._pacer.sleep_until(step.end_s)
            self._publish(step, self.replica.end())

    def _publish(self, step: Step, outcome: Outcome) -> None:
        for admitted in outcome.admitted:
            if handle := self._live.get(admitted.id):
                handle.cached = {str(source): n for source, n in admitted.cached.items()}
        for request_id, count in outcome.tokens:
            if handle := self._live.get(request_id):
                handle.queue.put_nowait(count)
        for observer in self._observers:
            observer.stepped(step, outcome)
        for finished in outcome.finished:
            handle = self._live.pop(finished.id, None)
            if handle is None:
                continue
            for observer in self._observers:
                observer.finished(handle.job, finished)
            handle.queue.put_nowait(Settled(finished=finished))
        self._after_change()

    def _after_change(self) -> None:
        self._changed.set()
        if not self._live:
            self._idle.set()
