"""The scheduler's instructions as words for calls."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from agentic_serving.program import events as ev
from agentic_serving.router.book import Book, Instructions
from agentic_serving.router.calls import Open, Phase
from agentic_serving.router.config import Config
from agentic_serving.router.dialect import also, because, picker_headers
from agentic_serving.router.limits import Limits
from agentic_serving.router.subset import others
from agentic_serving.router.words import Decided, Go, Pod, Refuse, Wait, Word

__all__ = ["Carrier", "Hint"]

#: A pod's name and all pods → the addresses that the picker chooses among; none: no hint.
Hint = Callable[[str, Sequence[Pod]], tuple[str, ...]]

#: How long a client is told to stay away when the queue is full: until a place is free at the latest, within these.
_LEAST_RETRY_S, _MOST_RETRY_S = 1, 30
_FULL = "the scheduler holds as many requests as it may; try again later"
_REPLACED = "replaced by the client's own retry"


class Carrier:
    """Says what the book's instructions mean in the mode that is configured."""

    def __init__(self, book: Book, config: Config, hint: Hint | None, limits: Limits) -> None:
        self.config = config
        self._book = book
        self._hint = hint
        self._limits = limits

    def carry_out(self, told: Instructions, now_s: float) -> list[Word]:
        """The words, with those of what follows from them."""
        warm = [one for one in told if isinstance(one, ev.Warm)]  # the desk's to begin: it has the body
        todo, words = deque(told), list[Word]()
        while todo:
            one = todo.popleft()
            call = None if isinstance(one, ev.Drop) else self._book.calls.get(one.turn_id)
            if call is None or isinstance(one, ev.Warm):
                continue
            if isinstance(one, ev.Hold):
                todo.extend(self._hold(call, one, words, now_s))
            elif isinstance(one, ev.Admit) and call.phase is Phase.LEFT:  # nobody waits for it
                todo.extend(self._book.give_up(call, now_s))
            elif isinstance(one, ev.Admit):
                words.append(self._admit(call, one, now_s, warm))
        return words

    def decided(
        self,
        call_id: str,
        verdict: Literal["Admit", "Hold", "Refuse"],
        reason: str,
        now_s: float,
        admit: ev.Admit | None = None,
        *,
        held_s: float = 0.0,
        warm: Sequence[ev.Warm] = (),
    ) -> None:
        """Tells what became of a call."""
        replica = (admit.replica or "") if admit is not None else ""
        uncached = admit.uncached_tokens if admit is not None else 0
        note = Decided(
            call_id=call_id,
            verdict=verdict,
            reason=reason,
            replica=replica,
            uncached_tokens=uncached,
            held_s=held_s,
            because=because(reason, replica=replica, uncached_tokens=uncached) + also(warm),
        )
        self._book.tell(note, now_s)

    def take_place(self, first: Open, again: Open, now_s: float) -> list[Word]:
        """A held call came again from its own client: the new one waits in its place."""
        book, found = self._book, list[Word]()
        told = book.do(ev.Replaced(first.id, again.turn), now_s)
        again.arrived_s = first.arrived_s
        if first.phase is Phase.HELD:
            self.decided(first.id, "Refuse", "ReplacedByRetry", now_s, held_s=now_s - first.arrived_s)
            book.unserved(first, "Refused", now_s)
            found.append(Refuse(call_id=first.id, status=409, message=_REPLACED))
        told += book.replace(first, again, now_s)
        self.decided(again.id, "Hold", again.reason, now_s)
        return [*found, Wait(call_id=again.id, until_s=again.until_s), *self.carry_out(told, now_s)]

    def _admit(self, call: Open, admit: ev.Admit, now_s: float, warm: Sequence[ev.Warm]) -> Word:
        held_s = now_s - call.arrived_s if call.phase is Phase.HELD else 0.0
        observing = self.config.mode == "Observe"
        reason = "NotParsed" if not call.read else str(admit.reason)
        if observing and call.reason:  # a hold was told: it is this mode that lets it go
            reason = "Observing"
        self._book.go(call, admit, now_s)
        mine = [one for one in warm if one.turn_id == call.id]
        self.decided(call.id, "Admit", reason, now_s, admit, held_s=held_s, warm=mine)
        headers = {} if observing else picker_headers(self.config.picker_headers, call.came)
        if observing or admit.replica is None or self._hint is None:
            return Go(call_id=call.id, headers=headers)
        pods = self._book.places.pods
        endpoints = self._hint(admit.replica, pods)
        rest = others(admit.replica, pods) if endpoints else ()
        return Go(call_id=call.id, endpoints=endpoints, others=rest, headers=headers)

    def _hold(self, call: Open, hold: ev.Hold, words: list[Word], now_s: float) -> Instructions:
        book, limits = self._book, self._limits
        if self.config.mode == "Observe":
            call.reason = str(hold.reason)
            self.decided(call.id, "Hold", call.reason, now_s)
            return book.do(ev.Released(call.id), now_s)
        calls = book.calls
        n_bytes = calls.held_bytes + calls.left_bytes + call.n_bytes
        if calls.held + calls.left >= limits.max_held or n_bytes > limits.max_held_bytes:
            self.decided(call.id, "Refuse", "QueueFull", now_s)
            words.append(
                Refuse(call_id=call.id, status=429, message=_FULL, retry_after_s=self._retry_after_s(now_s))
            )
            return book.refuse(call, now_s)
        book.hold(call, hold.until_s, str(hold.reason), now_s)
        self.decided(call.id, "Hold", call.reason, now_s)
        words.append(Wait(call_id=call.id, until_s=hold.until_s))
        return []

    def _retry_after_s(self, now_s: float) -> int:
        first_s = self._book.scheduler.waiting.deadline_s
        return int(min(_MOST_RETRY_S, max(_LEAST_RETRY_S, (first_s or now_s) - now_s)))
