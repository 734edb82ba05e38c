"""What happened of late, run by run: a bounded ring for `explain run`, and what sessions do now for `top`.

Bounded by turns: 20,000 in all, some 1.5 KB each with everything they say; the run that was quiet longest leaves first, whole.
One run keeps its newest 2,000 turns.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from agentic_serving.router import words
from agentic_serving.router.inflight import InFlight
from agentic_serving.router.records import (
    MAX_SENTENCE,
    MAX_STEPS,
    RunRecord,
    SessionRecord,
    TaskRecord,
    TurnRecord,
)

__all__ = ["History"]

_MAX_TURNS = 20_000
_MAX_RUN_TURNS = 2_000


class History:
    """Hears notes and keeps them by run.

    Attributes:
        forgotten: runs that left to make room.
    """

    def __init__(self, *, max_turns: int = _MAX_TURNS, max_run_turns: int = _MAX_RUN_TURNS) -> None:
        self._runs: dict[str, RunRecord] = {}  # the one that was active last comes last
        self._run_of: dict[str, str] = {}  # session to run, of sessions that are kept
        self._calls: InFlight[TurnRecord] = InFlight(max_turns)
        self._n_turns = 0
        self._max_turns = max_turns
        self._max_run_turns = max_run_turns
        self.forgotten = 0
        self._hearing: dict[type, Callable[[Any, float], None]] = {
            words.Came: self._came,
            words.Decided: self._decided,
            words.Began: self._began,
            words.Done: self._done,
            words.TaskDone: self._task,
            words.Over: self._over,
            words.Closed: self._closed,
        }

    def hear(self, note: words.Note, now_s: float) -> None:
        hear = self._hearing.get(type(note))
        if hear is not None:
            hear(note, now_s)

    def runs(self) -> Iterator[RunRecord]:
        """The one that was active last comes first."""
        return reversed(self._runs.values())

    def run(self, name: str) -> RunRecord | None:
        """By its own name, or that of one of its sessions."""
        return self._runs.get(name) or self._runs.get(self._run_of.get(name, ""))

    def sessions(self) -> Iterable[tuple[RunRecord, SessionRecord]]:
        """Those that are not over."""
        return ((run, s) for run in self.runs() for s in run.sessions.values() if not s.over)

    def turn(self, call_id: str) -> TurnRecord | None:
        """A call that has not ended."""
        return self._calls.get(call_id)

    def _came(self, note: words.Came, now_s: float) -> None:
        turn = TurnRecord(note, now_s)
        run = self._active(note, now_s)
        session = run.sessions.get(note.session)
        if session is None:
            run.sessions[note.session] = SessionRecord(note.session, note.parent, turn)
            self._run_of[note.session] = run.id
        else:
            session.before, session.last = session.last, turn
            session.over, session.over_s = "", None
            session.parent = note.parent or session.parent
        run.turns.append(turn)
        run.over = ""
        self._n_turns += 1
        self._calls.begin(note.call_id, turn)
        self._make_room(run)

    def _active(self, note: words.Came, now_s: float) -> RunRecord:
        """The run, moved to the end; a session that turns out to be of another run takes its turns along."""
        run = self._runs.pop(note.run, None) or RunRecord(note.run, note.program, now_s, now_s)
        run.last_s = now_s
        self._runs[note.run] = run
        before = self._run_of.get(note.session, note.run)
        if before != note.run and before in self._runs:
            self._move(note.session, self._runs[before], run)
        return run

    def _move(self, session: str, origin: RunRecord, to: RunRecord) -> None:
        to.sessions[session] = origin.sessions.pop(session)
        self._run_of[session] = to.id
        moved = [turn for turn in origin.turns if turn.came.session == session]
        if moved:
            to.at_s = min(to.at_s, moved[0].at_s)
        to.turns = deque(sorted([*to.turns, *moved], key=lambda turn: turn.at_s))
        origin.turns = deque(turn for turn in origin.turns if turn.came.session != session)
        if not origin.sessions:
            self._n_turns -= len(origin.turns)
            del self._runs[origin.id]

    def _make_room(self, newest: RunRecord) -> None:
        while len(newest.turns) > self._max_run_turns:
            self._forget_turn(newest)
        while self._n_turns > self._max_turns:
            oldest = next(iter(self._runs.values()))
            if oldest is newest:
                self._forget_turn(newest)
                continue
            del self._runs[oldest.id]
            self._n_turns -= len(oldest.turns)
            self.forgotten += 1
            for session in oldest.sessions:
                del self._run_of[session]

    def _forget_turn(self, run: RunRecord) -> None:
        session = run.turns[0].came.session
        run.forget_first()
        self._n_turns -= 1
        if session not in run.sessions:
            del self._run_of[session]

    def _decided(self, note: words.Decided, now_s: float) -> None:
        turn = self._calls.get(note.call_id)
        if turn is not None and len(turn.steps) < MAX_STEPS:
            short = (
                replace(note, because=note.because[:MAX_SENTENCE]) if note.because[MAX_SENTENCE:] else note
            )
            turn.steps.append((now_s, short))

    def _began(self, note: words.Began, now_s: float) -> None:
        turn = self._calls.get(note.call_id)
        if turn is not None and turn.began is None:
            turn.began, turn.began_s = note, now_s

    def _done(self, note: words.Done, now_s: float) -> None:
        turn = self._calls.end(note.call_id)
        if turn is None:
            return
        turn.done, turn.done_s = note, now_s
        run = self.run(turn.came.run)
        if run is not None:
            run.last_s = max(run.last_s, now_s)

    def _task(self, note: words.TaskDone, now_s: float) -> None:
        run = self._runs.get(note.run)
        if run is not None:
            run.tasks.append(TaskRecord(now_s, note))

    def _over(self, note: words.Over, now_s: float) -> None:
        run = self.run(note.session)
        if run is None:
            return
        session = run.sessions.get(note.session)
        if session is not None:
            session.over, session.over_s = note.why, now_s
        if note.session == note.run:
            run.over = note.why
            for one in run.sessions.values():
                if not one.over:
                    one.over, one.over_s = note.why, now_s

    def _closed(self, note: words.Closed, now_s: float) -> None:  # noqa: ARG002 (all of these are called alike)
        """It comes with the next turn, before or after its Came: it is of the newest turn that has ended."""
        run = self.run(note.session)
        session = run.sessions.get(note.session) if run is not None else None
        if session is None:
            return
        turn = session.last if session.last.done is not None else session.before
        if turn is not None:
            turn.gap = note
