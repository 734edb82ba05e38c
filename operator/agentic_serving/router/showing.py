"""What of the desk can be looked at: plain values, made when somebody looks."""

from heapq import nsmallest

from agentic_serving.router.book import Book
from agentic_serving.router.calls import Open, Phase
from agentic_serving.router.views import HeldCall, Live, Replica
from agentic_serving.router.words import Pod

__all__ = ["held", "live"]


def live(book: Book) -> Live:
    return Live(
        runs=len(book.roster.runs),
        sessions=len(book.sessions),
        in_flight=book.calls.going,
        held=book.calls.held,
        held_bytes=book.calls.held_bytes,
        replicas=tuple(_replica(book, pod) for pod in book.places.pods),
    )


def held(book: Book, limit: int) -> list[HeldCall]:
    """Those that have waited longest first."""
    waiting = (call for call in book.calls if call.phase is Phase.HELD)
    return [_held(book, call) for call in nsmallest(limit, waiting, key=lambda call: call.arrived_s)]


def _held(book: Book, call: Open) -> HeldCall:
    return HeldCall(
        call_id=call.id,
        program=call.turn.program,
        run=call.turn.run,
        session=call.turn.session,
        reason=book.scheduler.waiting.reason(call.id) or call.reason,
        since_s=call.arrived_s,
        until_s=call.until_s,
        n_bytes=call.n_bytes,
    )


def _replica(book: Book, pod: Pod) -> Replica:
    ledger, known = book.scheduler.ledger, pod.name in book.places
    residents = book.scheduler.residents
    return Replica(
        name=pod.name,
        role=pod.role,
        ready=pod.ready,
        draining=pod.draining,
        capacity_tokens=ledger.capacity(pod.name) if known else pod.capacity_tokens,
        held_tokens=ledger.busy(pod.name) + ledger.idle(pod.name) if known else 0,
        needed_tokens=round(residents.needed(pod.name)) if known else 0,
        running=pod.running,
        waiting=pod.waiting,
        residents=residents.count(pod.name),
    )
