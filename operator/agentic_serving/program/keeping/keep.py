"""Takes the pieces out: reads a few private places of the objects that it belongs to, changes nothing but budgets' clocks.

One session costs what its prompt's boundaries cost; nothing here walks over all sessions but `sessions`.
"""

# ruff: noqa: SLF001 - what is kept of these classes is written and read in one place, beside them

from agentic_serving.program.gaps import GapModel
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.graph_path import Path
from agentic_serving.program.keeping.kept import Away, Drawn, Home, Kept, Learned, Task, Total, World
from agentic_serving.program.ledger import Ledger
from agentic_serving.program.pieces import Piece, path_tokens
from agentic_serving.program.policy import Policy
from agentic_serving.program.replicas import Replica
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.tree import Node

__all__ = ["learned", "session", "sessions"]

#: Boundaries kept of a prompt: what comes next goes on from the last one; the others are for forks, compaction and edits.
_BOUNDARIES = 12
#: Programs whose gaps are kept, the ones that learned last.
_PROGRAMS = 256


def sessions(world: World) -> list[str]:
    """All that there are, the one seen longest ago first."""
    return list(world.sessions._tree.nodes)


def session(world: World, name: str) -> Kept | None:
    """None: there is no such session."""
    node = world.sessions._tree.nodes.get(name)
    if node is None:
        return None
    root = node.root()
    graph = world.graph(root.name)
    return Kept(
        name=name,
        seen_s=node.seen_s,
        parent=node.parent.name if node.parent else None,
        own=node.own,
        seen=node.seen,
        tools=node.tools,
        final=node.final,
        turns=node.turns,
        chain=node.chain,
        attained_tokens=node.attained_tokens,
        homes=_homes(world.scheduler.ledger, name),
        away=_away(world.scheduler, node),
        drawn=_drawn(graph, name) if graph is not None else None,
        total=_total(node),
        task=_task(world, name) if node is root else None,
    )


def learned(world: World, now_s: float) -> Learned:
    """What is not any session's."""
    scheduler, ledger = world.scheduler, world.scheduler.ledger
    decoding = scheduler._placing.decoding
    return Learned(
        made=world.sessions._made,
        per_s=scheduler.service.tokens_in(1.0),
        error=(ledger.error, ledger._n_reported),
        rates={program: (rate.tokens_per_byte, rate._turns) for program, rate in world.rates.items()},
        trust=dict(scheduler.absence._trust),
        decoding=(decoding._answer, decoding._n, decoding._x, decoding._y, decoding._xx, decoding._xy),
        replicas={
            name: (
                ledger._replicas[name].share,
                ledger.busy(name) + ledger.idle(name),
                one.tokens_per_s,
                _budget_s(one, scheduler.policy, now_s),
            )
            for name, one in scheduler._placing.replicas.items()
            if name in ledger._replicas
        },
        gaps=_gaps(scheduler.absence.gaps),
    )


def _budget_s(replica: Replica, policy: Policy, now_s: float) -> float:
    replica.spare(policy, now_s)  # what it has earned until now
    return replica._budget_s


def _homes(ledger: Ledger, name: str) -> tuple[Home, ...]:
    found = []
    for holdings in ledger._places.get(name, ()):
        piece = holdings.named[name]
        base = _sibling(piece)
        shared = path_tokens(piece.parent) if base else 0
        found.append(Home(replica=holdings.name, tokens=path_tokens(piece), base=base or "", shared=shared))
    return tuple(found)


def _sibling(piece: Piece) -> str | None:
    """Some other session that has all that this one shares."""
    if piece.parent is None:
        return None
    found = next((one for one in piece.parent.children or () if one is not piece), None)
    while found is not None and found.owner is None:
        found = next(iter(found.children or ()), None)
    return found.owner if found is not None else None


def _away(scheduler: Scheduler, node: Node) -> Away | None:
    """A turn that is under way now is one that had just ended: nobody will tell the next process of its end."""
    absence, home = scheduler.absence, scheduler.residents.home(node.name) or ""
    one = absence._away.get(node.name)
    if one is not None:
        return Away(program=one.program, since_s=one.since_s, replica=home, declared=one.declared)
    if not home:
        return None
    return Away(program=node.name.partition("/")[0], since_s=node.seen_s, replica=home)


def _drawn(graph: SessionGraph, name: str) -> Drawn | None:
    live = graph._sessions.get(name)
    if live is None:
        return None
    path, was = Path(), live.path
    path.chains, path.contents, path.sizes, path.kinds = was.chains, was.contents, was.sizes, was.kinds
    path.tokens_per_byte, path.whole = was.tokens_per_byte, was.whole
    path.merge(_BOUNDARIES)
    return Drawn(
        path=path,
        parent=live.parent,
        told=live.told,
        child_seen=live.child_seen,
        child_told=live.child_told,
    )


def _total(node: Node) -> Total | None:
    totals = node.totals
    if totals is None:
        return None
    return Total(
        started_s=totals.started_s,
        turns=totals.turns,
        tasks=totals.tasks,
        attained_tokens=totals.attained_tokens,
        task_tokens=totals.task_tokens,
    )


def _task(world: World, run: str) -> Task | None:
    found = world.scheduler.service.task(run)
    return Task(since_s=found[0], tokens=found[1]) if found is not None else None


def _gaps(model: GapModel) -> dict[str, dict[str, tuple[float, ...]]]:
    """By program, then by `kind:` or `cause:`; the level above all programs is under no name."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    levels = list(model._programs.items())[-_PROGRAMS:]
    for program, one in levels:
        by_kind = {f"kind:{kind}": histogram for kind, histogram in one.kinds.items()}
        causes = {f"cause:{cause}": histogram for cause, histogram in one.causes.items()}
        found[program] = {name: histogram.samples() for name, histogram in {**by_kind, **causes}.items()}
    found[""] = {f"kind:{kind}": histogram.samples() for kind, histogram in model._kinds.items()}
    return found
