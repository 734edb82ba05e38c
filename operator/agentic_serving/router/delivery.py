"""Between the host and the calls that wait for its words.

Whatever the host does, a call goes on: an exception of its is counted, told to the log, and the call goes its way
without a hint. Everything happens on one event loop, so nothing here is locked.

Bounded by Envoy's number of streams: one entry for each call that is open.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agentic_serving.router.words import Call, Go, Host, Refuse, Usage, Wait, Word

__all__ = ["Delivery", "Mishaps"]

_LOG = logging.getLogger(__name__)

#: A bug that shows with every request is told this often, with how many times it happened.
QUIET_S = 10.0
#: The least time between two ticks: a host whose time to wake does not move on must not spin.
MIN_TICK_S = 0.001

Verdict = Go | Refuse


@dataclass(slots=True)
class Mishaps:
    """Counts exceptions by part, and tells the log of them without flooding it.

    Attributes:
        count: called with the part's name for each (`Metrics.error`).
    """

    clock: Callable[[], float]
    count: Callable[[str], None] = lambda _: None
    _quiet_until_s: float = float("-inf")
    _unsaid: int = 0

    def add(self, part: str, error: Exception) -> None:
        self.count(part)
        self._unsaid += 1
        now_s = self.clock()
        if now_s >= self._quiet_until_s:
            _LOG.error("%s: %d exceptions, the last one: %r", part, self._unsaid, error, exc_info=error)
            self._quiet_until_s, self._unsaid = now_s + QUIET_S, 0


@dataclass(slots=True)
class _Open:
    """A call that the host knows. `verdict`: what is waited for while it is held."""

    verdict: "asyncio.Future[Verdict] | None" = None


@dataclass(slots=True)
class Delivery:
    """Asks the host, and takes each word to the call that it is for."""

    host: Host
    clock: Callable[[], float]
    mishaps: Mishaps
    _open: dict[str, _Open] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _timer_s: float = float("inf")

    def arrive(self, call: Call) -> Word | None:
        """The first word for a call. After a Wait, `verdict` has the second; `closed` must follow in any case.

        None: the host was not asked, as the call has no id or one that is in use. It goes, and nothing must follow.
        """
        if not call.id or call.id in self._open:
            return None
        self._open[call.id] = _Open()
        words = self._ask("desk", lambda now_s: self.host.arrive(call, now_s))
        first: Word = Go(call_id=call.id)
        others: list[Word] = []
        for word in words:
            if word.call_id == call.id:
                first = word
            else:
                others.append(word)
        if isinstance(first, Wait):
            self._open[call.id].verdict = asyncio.get_running_loop().create_future()
        self.deliver(others)
        return first

    async def verdict(self, call_id: str, within_s: float) -> Verdict:
        """The second word for a held call; Go if none comes in time."""
        found = self._open.get(call_id)
        if found is None or found.verdict is None:
            return Go(call_id=call_id)
        try:
            return await asyncio.wait_for(found.verdict, within_s)
        except TimeoutError as error:
            self.mishaps.add("desk", error)
            return Go(call_id=call_id)

    @property
    def held(self) -> int:
        """Calls that wait for their second word."""
        return sum(one.verdict is not None and not one.verdict.done() for one in self._open.values())

    def first_token(self, call_id: str) -> None:
        if call_id in self._open:
            self._tell("desk", lambda now_s: self.host.first_token(call_id, now_s))

    def closed(self, call_id: str) -> None:
        """The call's stream has ended; told to the host once."""
        if self._open.pop(call_id, None) is not None:
            self._tell("desk", lambda now_s: self.host.closed(call_id, now_s))

    def usage(self, usage: Usage) -> None:
        self._tell("access_log", lambda now_s: self.host.usage(usage, now_s))

    def deliver(self, words: Iterable[Word]) -> None:
        """Words for calls, from wherever the host was asked. Those for calls that are gone are dropped."""
        for word in words:
            found = self._open.get(word.call_id)
            if isinstance(word, Wait) or found is None or found.verdict is None or found.verdict.done():
                continue
            found.verdict.set_result(word)
        self._set_timer()

    def release_all(self) -> None:
        """Lets every held call go: the process ends, or is no longer the active one."""
        self.deliver([Go(call_id=call_id) for call_id in self._open])

    def stop(self) -> None:
        """No tick comes any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, part: str, ask: Callable[[float], Sequence[Word]]) -> None:
        self.deliver(self._ask(part, ask))

    def _ask(self, part: str, ask: Callable[[float], Sequence[Word]]) -> Sequence[Word]:
        try:
            return tuple(ask(self.clock()))
        except Exception as error:  # noqa: BLE001 - a bug of the host must not fail a request
            self.mishaps.add(part, error)
            return ()

    def _set_timer(self) -> None:
        wake_s = self._wake_s()
        if wake_s == self._timer_s and self._timer is not None:
            return
        self.stop()
        self._timer, self._timer_s = None, wake_s
        if wake_s < float("inf"):
            after_s = max(wake_s - self.clock(), MIN_TICK_S)
            self._timer = asyncio.get_running_loop().call_later(after_s, self._tick)

    def _wake_s(self) -> float:
        try:
            found = self.host.wake_s
        except Exception as error:  # noqa: BLE001 - as above
            self.mishaps.add("desk", error)
            return float("inf")
        return float("inf") if found is None else found

    def _tick(self) -> None:
        self._timer, self._timer_s = None, float("inf")
        self._tell("desk", self.host.tick)
