"""Puts the pieces back into objects that may be at work already: what happened since is newer, and wins.

Sessions come with the one seen last first. Everything that keeps an order by time (registry, caches' queues, absences,
timers) gets each in front of what it has, so that one costs the same whatever is there. A session that is brought in out
of turn, because its next turn came, is moved to its place by that turn.
"""

# ruff: noqa: SLF001 - what is kept of these classes is written and read in one place, beside them

from bisect import bisect_right
from collections.abc import Callable
from operator import add

from agentic_serving.program.absence import Absence, _Away
from agentic_serving.program.graph import SessionGraph, _Live
from agentic_serving.program.holdings import Holdings
from agentic_serving.program.keeping.kept import Away, Drawn, Home, Kept, World
from agentic_serving.program.ledger import Ledger
from agentic_serving.program.pieces import Piece, path_tokens
from agentic_serving.program.residents import Residents
from agentic_serving.program.sessions import Sessions
from agentic_serving.program.tree import Node

__all__ = ["home", "remainder", "rest", "session"]


def session(world: World, kept: Kept, now_s: float, *, again: bool = False) -> bool:
    """Everything of it but what depends on replicas (`home`, `rest`). False: the registry is full.

    A parent should come before its children; one that never comes is a place kept for it.

    Args:
        again: what is here was kept in the same place before: counts are not added to what is there, the larger ones hold.
    """
    both = max if again else add
    sessions = world.sessions
    if kept.name not in sessions and len(sessions) + 2 > sessions._max_sessions:  # it, and its parent
        return False
    node = _registered(sessions, kept, both)
    if kept.total is not None and (totals := node.root().totals) is not None:
        totals.started_s = min(totals.started_s, kept.total.started_s)
        totals.turns = both(totals.turns, kept.total.turns)
        totals.tasks = both(totals.tasks, kept.total.tasks)
        totals.attained_tokens = both(totals.attained_tokens, kept.total.attained_tokens)
        totals.task_tokens = both(totals.task_tokens, kept.total.task_tokens)
    if kept.task is not None:
        world.scheduler.service.restore(kept.name, kept.task.since_s, kept.task.tokens)
    root = node.root().name
    if kept.drawn is not None:
        _draw(world.make_graph(root), kept.name, kept.drawn, min(kept.seen_s, now_s))
    if kept.away is not None:
        _absent(world.scheduler.absence, kept.name, root, kept.away)
    return True


def home(ledger: Ledger, name: str, kept: Home) -> bool:
    """What a replica has of a session. False: the replica is not known (yet)."""
    replica = ledger._replicas.get(kept.replica)
    if replica is None:
        return False
    holdings = replica.holdings
    if name not in holdings.named and len(holdings.named) < holdings.max_sessions:
        _lay(ledger, holdings, name, kept)
    return True


def remainder(ledger: Ledger, replica: str, held_tokens: int) -> None:
    """After the last session: what else was in a cache. It lies there as what is evicted first; where it was is not kept."""
    found = ledger._replicas.get(replica)
    if found is None:
        return
    holdings = found.holdings
    rest = min(held_tokens, holdings.limit) - holdings.busy - holdings.idle
    if rest > 0:
        _oldest(holdings, Piece(None, rest))


def rest(residents: Residents, name: str, away: Away, now_s: float) -> None:
    """After `home`: what of that is needed again, as if time had passed here since its last turn."""
    ages_s = residents.ages_s
    step = bisect_right(ages_s, max(0.0, now_s - away.since_s)) - 1
    if name in residents._residents or step >= len(ages_s) - 1:
        return
    residents.use(name, away.replica, 0)
    weight, tokens = residents._look(name, ages_s[step])
    if weight <= 0 or not tokens:
        residents.forget(name)
        return
    found = residents._residents[name]
    residents._set(found, weight * tokens)
    over_s = min(away.since_s, now_s) + ages_s[step + 1]
    residents._timers[step].appendleft((over_s, name, found.serial))


def _registered(sessions: Sessions, kept: Kept, both: Callable[[int, int], int]) -> Node:
    tree = sessions._tree
    seen_s = min(kept.seen_s, oldest.seen_s) if (oldest := tree.oldest()) else kept.seen_s
    if kept.name not in tree.nodes and kept.parent is not None and kept.parent != kept.name:
        # One that is here already is in its place: its next turn says whose child it is.
        parent = _placed(sessions, kept.parent, seen_s)
        before = tree.refused
        tree.link(_placed(sessions, kept.name, seen_s), parent, own=kept.own)
        tree.refused = before  # a refusal now is not a client's doing
    node = _placed(sessions, kept.name, seen_s)
    sessions._made = max(sessions._made, _number(kept.name))
    node.chain = node.chain if node.turns else kept.chain
    node.turns = both(node.turns, kept.turns)
    node.attained_tokens = both(node.attained_tokens, kept.attained_tokens)
    node.seen = node.seen or kept.seen
    node.tools = node.tools or kept.tools
    node.final = node.final or kept.final
    return node


def _number(name: str) -> int:
    """Of a session that nobody names, so that no other one is called the same."""
    last = name.rpartition("/")[2]
    digits = last[1:] if last.startswith("~") else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 0


def _placed(sessions: Sessions, name: str, seen_s: float) -> Node:
    tree = sessions._tree
    found = tree.nodes.get(name)
    if found is None:
        found = tree.ensure(name, seen_s)
        tree.nodes.move_to_end(name, last=False)
    return found


def _draw(graph: SessionGraph, name: str, drawn: Drawn, seen_s: float) -> None:
    if name in graph or len(graph) >= graph._max_sessions or not len(drawn.path):
        return
    oldest = next(iter(graph._sessions.values()), None)
    live = _Live()
    live.path, live.parent, live.told = drawn.path, drawn.parent, drawn.told
    live.child_seen, live.child_told = drawn.child_seen, drawn.child_told
    live.seen_s = min(seen_s, oldest.seen_s) if oldest is not None else seen_s
    graph._now_s = max(graph._now_s, live.seen_s)
    graph._sessions[name] = live
    graph._sessions.move_to_end(name, last=False)
    for anchor in drawn.path.anchors():
        graph._anchors.add_older(name, anchor)


def _absent(absence: Absence, name: str, run: str, away: Away) -> None:
    if name in absence._away or len(absence) >= absence._max_sessions:
        return
    absence._away[name] = _Away(away.program, run, away.since_s, away.declared)
    absence._away.move_to_end(name, last=False)
    absence._sessions.setdefault(run, set()).add(name)


def _lay(ledger: Ledger, holdings: Holdings, name: str, kept: Home) -> None:
    """In the place of what is evicted first, as far as it fits."""
    base = holdings.named.get(kept.base)
    prefix = None
    if base is not None and 0 < kept.shared <= kept.tokens:
        prefix = holdings._prefix(base, min(kept.shared, path_tokens(base)))
    shared = path_tokens(prefix)
    own = min(kept.tokens - shared, holdings.limit - holdings.busy - holdings.idle)
    if own <= 0 and prefix is None:
        return
    piece = holdings._name(name, prefix)
    piece.seen = holdings.used - holdings.idle - holdings.busy
    if own > 0:
        piece.tokens = own
        _oldest(holdings, piece)
    ledger._places[name] = (*ledger._places.get(name, ()), holdings)


def _oldest(holdings: Holdings, piece: Piece) -> None:
    holdings.idle += piece.tokens
    holdings.queue.prepend(piece)
