"""What each replica's KV cache probably holds, by session: the estimate that the policy places turns by.

The host says where turns begin and end, and what the engine reported as cached; evictions are inferred (`holdings.py`).
Every call costs the same whatever the number of sessions, but for evictions, each of which ends what an earlier call put there.
"""

import math
from collections.abc import Mapping

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.program.holdings import Holdings
from agentic_serving.program.pieces import Turn

__all__ = ["Ledger"]

#: A report of one block less is rounding; vLLM's default block.
_BLOCK_TOKENS = 16
#: A replica that loses more than LRU explains has other users (probes, other gateways, images): believe in less of it,
#: at least half. A total loss takes 2 % away, a full hit gives 0.1 % back: at rest one turn in 20 is lost unexpectedly.
_LEAST_SHARE = 0.5
_LOSS_WEIGHT = 0.02
_HIT_WEIGHT = 0.001
#: About so many turns count for `error`.
_ERROR_TURNS = 1000
#: Sessions believed on one replica; beyond, the least recently used are forgotten.
_MAX_SESSIONS = 100_000


class _Replica:
    """A cache and how much of it we believe in."""

    __slots__ = ("capacity", "holdings", "share")

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self.capacity = 0
        self.share = 1.0

    def resize(self, capacity: int) -> None:
        self.capacity = capacity
        self.believe(self.share)

    def believe(self, share: float) -> None:
        self.share = min(1.0, max(_LEAST_SHARE, share))
        self.holdings.limit = int(self.capacity * self.share)
        self.holdings.make_room()


class Ledger:
    """Sessions by replica. Tokens are counts, times seconds on the host's clock.

    Calls about a replica that is gone, or a turn that is not known, do nothing: an end may come after its replica's.
    """

    def __init__(self, *, max_sessions: int = _MAX_SESSIONS) -> None:
        if max_sessions < 1:
            raise InvalidInput("max_sessions", "must be at least 1")
        self.total_capacity = 0
        #: Mean of |predicted - reported cached tokens| / prompt tokens over the last turns that were reported.
        self.error = 0.0
        self._n_reported = 0
        self._now_s = -math.inf
        self._max_sessions = max_sessions
        self._replicas: dict[str, _Replica] = {}
        self._places: dict[str, tuple[Holdings, ...]] = {}  # the caches that hold a session

    def replica(self, name: str, capacity_tokens: int, host_tokens: int = 0) -> None:
        """A replica is there, or its capacity is another now.

        Args:
            capacity_tokens: what its engine reports as the size of its cache.
            host_tokens: room for what that cache evicts. A tier that is written through (vLLM's own offload, LMCache)
                has copies of what the device holds too: its size less the device's.
        """
        if capacity_tokens < 1 or host_tokens < 0:
            raise InvalidInput("capacity_tokens", "must be at least 1, and host_tokens not negative")
        found = self._replicas.get(name)
        if found is None:
            found = _Replica(self._holdings(name))
            self._replicas[name] = found
        self.total_capacity += capacity_tokens - found.capacity
        found.resize(capacity_tokens)
        found.holdings.host.limit = host_tokens
        found.holdings.trim_host()

    def gone(self, name: str) -> None:
        """A replica, or its engine's process, is no more, and what it held with it."""
        found = self._replicas.pop(name, None)
        if found is None:
            return
        self.total_capacity -= found.capacity
        for session in found.holdings.named:
            self._leave(session, found.holdings)
        found.holdings.queue.clear()

    def begin(
        self, session: str, replica: str, tokens: int, now_s: float, shared: tuple[str, int] | None = None
    ) -> None:
        """A turn goes to a replica: its prompt is in use until it ends.

        Args:
            shared: a session and how many of the prompt's first tokens are its as well (a fork, siblings of a fan-out):
                they are counted once, if it is there. The session itself: only so many of its own go on (compaction).

        Raises:
            InvalidInput: the replica is not known.
        """
        self._now_s = max(self._now_s, now_s)
        found = self._replicas.get(replica)
        if found is None:
            raise InvalidInput("replica", f"{replica} is not known")
        holdings = found.holdings
        if session not in holdings.named:
            self._places[session] = (*self._places.get(session, ()), holdings)
        holdings.begin(session, max(tokens, 1), shared)

    def end(
        self,
        session: str,
        replica: str,
        tokens: int,
        now_s: float,
        *,
        cached: int | None = None,
        expected: int | None = None,
    ) -> None:
        """A turn has ended; its prompt and answer stay there until they are evicted.

        Args:
            tokens: of the prompt and the answer.
            cached: prompt tokens that the engine reported as cached; None: it did not.
            expected: what `warm` said before the turn began, at most the prompt.
        """
        self._now_s = max(self._now_s, now_s)
        found = self._replicas.get(replica)
        turn = found.holdings.end(session, tokens) if found else None
        if found and turn and cached is not None and expected is not None:
            self._learn(found, turn, cached, expected)

    def cancel(self, session: str, replica: str, now_s: float) -> None:
        """A turn never ran, or was aborted: what it would have added is not there."""
        self._now_s = max(self._now_s, now_s)
        if found := self._replicas.get(replica):
            found.holdings.cancel(session)

    def drop(self, session: str) -> None:
        """The session is over. Its tokens stay in the caches until they are evicted, as they do in an engine's."""
        for holdings in self._places.pop(session, ()):
            holdings.drop(session)

    def others(self, replica: str, tokens: int) -> None:
        """Somebody whose turns are not told here used so many tokens of a replica's cache just now."""
        found = self._replicas.get(replica)
        if found is not None and tokens > 0:
            found.holdings.others(tokens)

    def cleared(self, replica: str) -> None:
        """A replica's cache was emptied."""
        if found := self._replicas.get(replica):
            found.holdings.clear()

    def warm(self, session: str, replica: str) -> int:
        """Tokens of its longest prompt that are believed there, from the first one on."""
        found = self._replicas.get(replica)
        return found.holdings.warm(session) if found else 0

    def warm_host(self, session: str, replica: str) -> int:
        """Tokens that follow the warm ones and are believed in the replica's second tier."""
        found = self._replicas.get(replica)
        return found.holdings.warm_host(session) if found else 0

    def where(self, session: str) -> Mapping[str, int]:
        """The replicas that hold some of it, the one with most first."""
        held = [(holdings.warm(session), holdings.name) for holdings in self._places.get(session, ())]
        held.sort(key=lambda one: (-one[0], one[1]))
        return {name: tokens for tokens, name in held if tokens}

    def capacity(self, replica: str) -> int:
        """Tokens that we believe it can hold; 0: not known."""
        found = self._replicas.get(replica)
        return found.holdings.limit if found else 0

    def busy(self, replica: str) -> int:
        """Tokens in use; more than the capacity if more turns were sent than fit."""
        found = self._replicas.get(replica)
        return found.holdings.busy if found else 0

    def idle(self, replica: str) -> int:
        """Tokens that are there and that nobody uses: with what is free, the room for new ones."""
        found = self._replicas.get(replica)
        return found.holdings.idle if found else 0

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        if self.total_capacity != sum(one.capacity for one in self._replicas.values()):
            raise Bug("capacities do not add up")
        for one in self._replicas.values():
            one.holdings.check()
        here = {(session, one.name) for session, places in self._places.items() for one in places}
        there = {(s, name) for name, one in self._replicas.items() for s in one.holdings.named}
        if here != there:
            raise Bug("sessions are not where the ledger looks for them")

    def _holdings(self, name: str) -> Holdings:
        made: Holdings = Holdings(name, 1, self._max_sessions, lambda session: self._leave(session, made))
        return made

    def _leave(self, session: str, holdings: Holdings) -> None:
        left = tuple(one for one in self._places.get(session, ()) if one is not holdings)
        if left:
            self._places[session] = left
        else:
            self._places.pop(session, None)

    def _learn(self, replica: _Replica, turn: Turn, cached: int, expected: int) -> None:
        """What the engine reported: our error, and whether the cache is smaller than it says.

        A client that edits its prompts loses its cache too. That says something of the replica only where so much was
        used in between that half of the cache could have been pushed out.
        """
        prompt = max(turn.prompt, 1)
        self._n_reported = min(self._n_reported + 1, _ERROR_TURNS)
        self.error += (min(1.0, abs(cached - expected) / prompt) - self.error) / self._n_reported
        lost = expected - cached
        if lost <= _BLOCK_TOKENS:
            replica.believe(replica.share + _HIT_WEIGHT * min(1.0, cached / prompt))
        elif turn.distance > _LEAST_SHARE * replica.capacity:
            replica.believe(replica.share - _LOSS_WEIGHT * lost / prompt)
