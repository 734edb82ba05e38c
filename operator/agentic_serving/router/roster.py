"""What the desk remembers of sessions and runs beside the registry: gaps, tasks, what was declared, who is idle.

Bounded by the registry: whoever is gone there is gone here.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from agentic_serving.program.session_types import Arrival, Gone
from agentic_serving.router.declared import merged
from agentic_serving.router.words import Closed, Declaration, Note, Over, TaskDone

__all__ = ["Roster", "Run", "Session", "Task"]


@dataclass(slots=True)
class Session:
    """A session as the desk saw it.

    Attributes:
        ended_s: when its last turn ended; None: none has yet, or one is under way.
        pod: where that was.
        standing: what was declared of it, at `said_s`.
    """

    began_s: float
    ended_s: float | None = None
    pod: str = ""
    standing: Declaration | None = None
    said_s: float = 0.0


@dataclass(slots=True)
class Task:
    """From a person's words on.

    Attributes:
        ended_s: when its last answer ended, so far.
        blocked_s: of its time, while something of the run was held and nothing of it was being served.
    """

    began_s: float
    ended_s: float
    held_s: float = 0.0
    blocked_s: float = 0.0
    turns: int = 0


@dataclass(slots=True)
class Run:
    """`held`, `served`: its calls now. `task_id`: what the client calls the task (Codex)."""

    program: str
    began_s: float
    changed_s: float
    held: int = 0
    served: int = 0
    task: Task | None = None
    task_id: str = ""

    def is_at(self, task_id: str) -> bool:
        """Whether that is its task already; it is from now on."""
        before, self.task_id = self.task_id, task_id
        return before == task_id


class Roster:
    """Sessions and runs by their names."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.runs: dict[str, Run] = {}
        self._seen: dict[
            str, OrderedDict[str, float]
        ] = {}  # by program: its runs, the one idle longest first
        self._quiet: OrderedDict[str, float] = OrderedDict()  # runs whose task has no call now, since when

    def arrive(self, program: str, arrival: Arrival, now_s: float, *, human: bool) -> Iterator[Note]:
        """A turn came. `human`: it begins a task."""
        session = self.sessions.setdefault(arrival.session, Session(now_s))
        if session.ended_s is not None and arrival.kind != "side":
            gap_s = now_s - session.ended_s
            yield Closed(session=arrival.session, program=program, kind=_kind(arrival), gap_s=gap_s)
            session.ended_s = None
        run = self.runs.setdefault(arrival.run, Run(program, now_s, now_s))
        self.touch(arrival.run, now_s)
        if human:
            yield from self._told(arrival.run, run)
            run.task = Task(now_s, now_s)
        if run.task is not None and arrival.kind != "side":
            self._quiet.pop(arrival.run, None)
            run.task.turns += 1

    def counts(self, name: str, now_s: float, *, held: int = 0, served: int = 0, held_s: float = 0.0) -> None:
        """Calls of a run began or ended to wait here, or to be served."""
        run = self.runs.get(name)
        if run is None:
            return
        if run.task is not None:
            run.task.held_s += held_s
            if run.held and not run.served:
                run.task.blocked_s += now_s - run.changed_s
        run.held, run.served, run.changed_s = run.held + held, run.served + served, now_s

    def finish(self, name: str, session: str, now_s: float, pod: str, *, answered: bool) -> None:
        """A turn has ended."""
        if (known := self.sessions.get(session)) is not None:
            known.ended_s, known.pod = now_s, pod or known.pod
        run = self.runs.get(name)
        if run is None:
            return
        self.touch(name, now_s)
        if run.task is not None:
            run.task.ended_s = now_s if answered else run.task.ended_s
            if not run.held and not run.served:
                self._quiet[name] = now_s
                self._quiet.move_to_end(name)

    def touch(self, name: str, now_s: float) -> None:
        runs = self._seen.setdefault(self.runs[name].program, OrderedDict())
        runs[name] = now_s
        runs.move_to_end(name)

    def quiet(self, before_s: float) -> Iterator[Note]:
        """Tasks that nothing followed since then."""
        while self._quiet and next(iter(self._quiet.values())) <= before_s:
            name, _ = self._quiet.popitem(last=False)
            yield from self._told(name, self.runs[name])

    def idle(self, program: str, before_s: float) -> Iterator[str]:
        """Runs of a program that nothing was heard of since then; each is named once."""
        runs = self._seen.get(program, OrderedDict())
        while runs and next(iter(runs.values())) <= before_s:
            name, _ = runs.popitem(last=False)
            yield name

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(self._seen)

    def declare(self, name: str, declaration: Declaration, now_s: float) -> None:
        session = self.sessions.setdefault(name, Session(now_s))
        session.standing, session.said_s = merged(session.standing, declaration), now_s

    def fork(self, arrival: Arrival) -> int:
        """Children that were declared to go on from this session's context and have not come; the first that comes ends that."""
        parent = self.sessions.get(arrival.parent) if arrival.new and arrival.parent else None
        if parent is not None and parent.standing is not None:
            parent.standing = replace(parent.standing, fork=None)
        session = self.sessions.get(arrival.session)
        standing = session.standing if session is not None else None
        return 0 if standing is None else standing.fork or 0

    def join(self, names: Iterable[str], into: str, program: str, now_s: float) -> None:
        """Runs turned out to be part of another one: its task is theirs."""
        for name in names:
            run = self._forget(name)
            if run is not None:
                root = self.runs.setdefault(into, Run(program, run.began_s, now_s))
                root.held, root.served = root.held + run.held, root.served + run.served

    def gone(self, gone: Gone, program: str, why: str, now_s: float) -> Iterator[Note]:
        """A session is over, or a run."""
        session, began_s = self.sessions.pop(gone.session, None), now_s
        if session is not None:
            began_s = session.began_s
        if gone.session == gone.run and (run := self.runs.get(gone.run)) is not None:
            yield from self._told(gone.run, run)
            self._forget(gone.run)
            began_s = min(began_s, run.began_s)
        yield Over(session=gone.session, run=gone.run, program=program, why=why, took_s=now_s - began_s)

    def _told(self, name: str, run: Run) -> Iterator[Note]:
        task, run.task = run.task, None
        self._quiet.pop(name, None)
        if task is not None and task.ended_s > task.began_s:
            took_s = task.ended_s - task.began_s
            yield TaskDone(
                program=run.program,
                run=name,
                took_s=took_s,
                alone_s=max(0.0, took_s - task.blocked_s),
                held_s=task.held_s,
                turns=task.turns,
            )

    def _forget(self, name: str) -> Run | None:
        self._quiet.pop(name, None)
        run = self.runs.pop(name, None)
        if run is not None:
            runs = self._seen.get(run.program)
            if runs is not None:
                runs.pop(name, None)
                if not runs:
                    del self._seen[run.program]
        return run


def _kind(arrival: Arrival) -> Literal["tool", "human"]:
    return "human" if arrival.kind == "human" and arrival.parent is None else "tool"
