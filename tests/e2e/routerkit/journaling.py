"""A scheduler's desk with a journal, driven by hand; as a program, one that serves some sessions and then waits to be killed."""

import asyncio
import sys
from collections.abc import Callable, Sequence

from agentic_serving.clock import SystemClock
from agentic_serving.router.config import Config, Valkey
from agentic_serving.router.desk import Desk
from agentic_serving.router.state import State, open_state
from agentic_serving.router.words import Go, Usage, Word
from tests.unit.router.desking import chat, config, pod, text_of

__all__ = ["SAVED", "Scheduler", "eventually", "stack"]

#: What the program says when the store has all that it knows.
SAVED = "saved"

_PODS = tuple(pod(f"r{i}", capacity_tokens=1_000_000) for i in range(3))
_NAMES = {one.endpoint: one.name for one in _PODS}
_SYSTEM = ("system", text_of(500, "system"))


def stack(address: str, name: str = "s", *, tls: bool = False) -> Config:
    return config(stack=name, valkey=Valkey(address=address, tls=tls))


async def eventually(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Raises TimeoutError if it does not come true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - counters and other processes have no event to wait for
            await asyncio.sleep(0.02)


class Scheduler:
    """One process's worth: made, loaded, told of turns."""

    def __init__(self, given: Config, password: str | None = None) -> None:
        self.clock = SystemClock()
        self.state: State = open_state(given, password, self.clock)
        self.words: list[Word] = []
        self.desk = Desk(
            given, listeners=[self.state.journal], service=self.state.service, hint=lambda _role, pods: tuple(
                one.endpoint for one in pods
            )
        )  # fmt: skip
        self.desk.pods(_PODS, self.now_s)
        self._n = 0

    @property
    def now_s(self) -> float:
        return self.clock.monotonic_s()

    async def load(self) -> None:
        await self.state.load(self.desk, self.words.extend)

    def turn(
        self, session: str, turns: int, *, tokens: int = 4000, served: int | None = None, **headers: str
    ) -> str:
        """The session's turn after so many; where it went. `served`: uncached tokens that the engine reports."""
        self._n += 1
        messages = [_SYSTEM]
        for i in range(turns):
            messages += [("user", text_of(tokens, f"{session}{i}")), ("assistant", f"answer {i}")]
        messages.append(("user", text_of(tokens, f"{session}{turns}")))
        call = chat(f"call-{id(self)}-{self._n}", messages, session=session, headers=headers)
        told = self.desk.arrive(call, self.now_s)
        (go,) = [one for one in told if isinstance(one, Go) and one.call_id == call.id]
        endpoint = go.endpoints[0]
        self.desk.first_token(call.id, self.now_s)
        self.desk.closed(call.id, self.now_s)
        prompt = len(call.body) // 4
        usage = Usage(
            call_id=call.id,
            endpoint=endpoint,
            status=200,
            prompt_tokens=prompt,
            cached_tokens=prompt - served if served is not None else None,
            output_tokens=5,
        )
        self.desk.usage(usage, self.now_s)
        return _NAMES[endpoint]

    def home(self, session: str) -> Sequence[str]:
        """Replicas that are believed to have it."""
        return tuple(self.desk.scheduler.ledger.where(f"default/{session}"))

    async def saved(self) -> None:
        """The store has what is known."""
        await eventually(lambda: self.state.healthy and not self.state.counters["pending"])
        before = self.state.counters["rounds"]
        await eventually(lambda: self.state.counters["rounds"] > before + 1)


async def _serve(address: str, n_sessions: int) -> None:
    one = Scheduler(stack(address))
    await one.load()
    for turn in range(3):
        for i in range(n_sessions):
            one.turn(f"session-{i}", turn)
    await one.saved()
    homes = " ".join(one.home(f"session-{i}")[0] for i in range(n_sessions))
    print(f"{SAVED} {homes}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
