"""What people may see of the desk while it works: replicas with their ledger, held calls, counts. Plain values."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["NOTHING", "HeldCall", "Live", "Replica", "Viewed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """An engine pod and what the ledger believes of it. Sizes are tokens.

    Attributes:
        capacity_tokens: its KV cache; None: not known.
        held_tokens: state that the ledger believes to lie there.
        needed_tokens: of it, what sessions will probably ask for again.
        running, waiting: requests in the engine, when last asked.
        residents: sessions that live there.
    """

    name: str
    role: str = "Aggregated"
    ready: bool = True
    draining: bool = False
    capacity_tokens: int | None = None
    held_tokens: int = 0
    needed_tokens: int = 0
    running: int = 0
    waiting: int = 0
    residents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCall:
    """A call that waits. Times are the desk's clock."""

    call_id: str
    program: str
    run: str
    session: str
    reason: str
    since_s: float
    until_s: float
    n_bytes: int = 0  # that holding it keeps in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One look at the desk. Counts are of everything, whatever bounds a list has."""

    runs: int = 0
    sessions: int = 0
    in_flight: int = 0  # calls that were let go and have not ended
    held: int = 0
    held_bytes: int = 0
    replicas: tuple[Replica, ...] = ()


class Viewed(Protocol):
    """What can be looked at. Both cost a walk over replicas, or over what is held: for scrapes and people, not per call."""

    def live(self, now_s: float) -> Live: ...

    def held(self, now_s: float, limit: int) -> list[HeldCall]:
        """At most `limit`, those that have waited longest first."""
        ...


NOTHING = Live()
