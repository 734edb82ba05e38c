"""History and live state as JSON values: what /v1/runs and /v1/live answer, and `explain run` and `top` show.

Times within a run are seconds since its first turn came; ages are seconds before the answer.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from agentic_serving.router.history import History
from agentic_serving.router.records import RunRecord, SessionRecord, State, TurnRecord
from agentic_serving.router.views import HeldCall, Live

__all__ = ["holds_told", "live_told", "run_told", "runs_told", "sessions_told"]

#: In a list for people; who wants all asks metrics.
MAX_LISTED = 200
#: What a person looks at first.
_URGENT: dict[State, int] = {"Held": 0, "Prefill": 1, "Decode": 2, "Away": 3}

Json = dict[str, Any]


def runs_told(history: History, now_s: float) -> list[Json]:
    """The runs that were active last."""
    return [
        {
            "id": run.id,
            "program": run.program,
            "began_s_ago": now_s - run.at_s,
            "last_s_ago": now_s - run.last_s,
            "sessions": len(run.sessions),
            "turns": len(run.turns) + run.earlier,
            "over": run.over or None,
        }
        for run in islice(history.runs(), MAX_LISTED)
    ]


def run_told(run: RunRecord, now_s: float) -> Json:
    """Everything that is known of one run; sessions come parents first."""
    turns: dict[str, list[TurnRecord]] = {}
    for turn in run.turns:
        turns.setdefault(turn.came.session, []).append(turn)
    return {
        "id": run.id,
        "program": run.program,
        "began_s_ago": now_s - run.at_s,
        "now_s": now_s - run.at_s,
        "over": run.over or None,
        "earlier_turns": run.earlier,
        "tasks": [
            {
                "told_s": task.at_s - run.at_s,
                "took_s": task.told.took_s,
                "alone_s": task.told.alone_s,
                "held_s": task.told.held_s,
                "turns": task.told.turns,
            }
            for task in run.tasks
        ],
        "sessions": [
            _session_told(session, turns.get(session.id, []), depth, run.at_s)
            for session, depth in _tree(run.sessions)
        ],
    }


def _tree(sessions: dict[str, SessionRecord]) -> list[tuple[SessionRecord, int]]:
    """Parents before their children, each with its depth. A parent that is not kept makes a root of its child."""
    children: dict[str | None, list[SessionRecord]] = {}
    for session in sessions.values():
        parent = session.parent if session.parent in sessions and session.parent != session.id else None
        children.setdefault(parent, []).append(session)
    found: list[tuple[SessionRecord, int]] = []
    seen: set[str] = set()
    stack = [(session, 0) for session in reversed(children.get(None, []))]
    while stack:
        session, depth = stack.pop()
        found.append((session, depth))
        seen.add(session.id)
        stack += [(child, depth + 1) for child in reversed(children.get(session.id, []))]
    return found + [(s, 0) for s in sessions.values() if s.id not in seen]  # parents in a circle


def _session_told(session: SessionRecord, turns: Iterable[TurnRecord], depth: int, begin_s: float) -> Json:
    return {
        "id": session.id,
        "parent": session.parent,
        "depth": depth,
        "state": None if session.over else session.last.state,
        "over": session.over or None,
        "over_s": None if session.over_s is None else session.over_s - begin_s,
        "turns": [_turn_told(turn, begin_s) for turn in turns],
    }


def _turn_told(turn: TurnRecord, begin_s: float) -> Json:
    came, done = turn.came, turn.done
    return {
        "call_id": came.call_id,
        "turn": came.turn,
        "kind": came.kind,
        "side": came.side or None,
        "client": came.client,
        "api": came.api,
        "model": came.model,
        "confidence": came.confidence,
        "came_s": turn.at_s - begin_s,
        "prompt_tokens": came.prompt_tokens if done is None or done.estimated else done.prompt_tokens,
        "new_tokens": came.new_tokens,
        "reused_tokens": came.reused_tokens,
        "divergence": came.divergence or None,
        "decisions": [
            {
                "at_s": at_s - begin_s,
                "verdict": step.verdict,
                "reason": step.reason,
                "replica": step.replica or None,
                "uncached_tokens": step.uncached_tokens,
                "held_s": step.held_s,
                "because": step.because or None,
            }
            for at_s, step in turn.steps
        ],
        "state": turn.state,
        "first_token_s": None if turn.began_s is None else turn.began_s - begin_s,
        "status": None if turn.began is None else turn.began.status,
        "replica": turn.replica or None,
        "ended_s": None if turn.done_s is None else turn.done_s - begin_s,
        "gap": None if turn.gap is None else {"kind": turn.gap.kind, "took_s": turn.gap.gap_s},
        **_ending_told(turn),
    }


def _ending_told(turn: TurnRecord) -> Json:
    done = turn.done
    if done is None:
        return {"outcome": None}
    return {
        "outcome": done.outcome,
        "cached_tokens": done.cached_tokens,
        "expected_cached_tokens": done.expected_cached_tokens,
        "output_tokens": done.output_tokens,
        "estimated": done.estimated,
        "recomputed": dict(done.recomputed),
    }


def sessions_told(history: History, now_s: float) -> list[Json]:
    """What sessions do now: those that wait here first, then those that are served, each longest first."""
    found = sorted(history.sessions(), key=lambda one: (_URGENT[one[1].last.state], one[1].last.since_s))
    away = [one for one in found if one[1].last.state == "Away"]
    busy = found[: len(found) - len(away)]
    newest_away = away[::-1]  # one that has been away for long hardly matters
    return [_live_session(run, s, now_s) for run, s in (busy + newest_away)[:MAX_LISTED]]


def _live_session(run: RunRecord, session: SessionRecord, now_s: float) -> Json:
    turn = session.last
    step = turn.steps[-1][1] if turn.steps else None
    return {
        "id": session.id,
        "run": run.id,
        "program": run.program,
        "parent": session.parent,
        "client": turn.came.client,
        "turn": turn.came.turn,
        "kind": turn.came.kind,
        "state": turn.state,
        "since_s": now_s - turn.since_s,
        "prompt_tokens": turn.came.prompt_tokens,
        "reason": step.reason if step else None,
        "because": (step.because if step else "") or None,
        "replica": turn.replica or None,
    }


def holds_told(held: Iterable[HeldCall], history: History, now_s: float) -> list[Json]:
    """Held calls with the sentence that says why."""
    return [
        {
            "call_id": one.call_id,
            "program": one.program,
            "run": one.run,
            "session": one.session,
            "reason": one.reason,
            "because": _because(history.turn(one.call_id)),
            "held_s": now_s - one.since_s,
            "leaves_in_s": max(0.0, one.until_s - now_s),
            "bytes": one.n_bytes,
        }
        for one in held
    ]


def _because(turn: TurnRecord | None) -> str | None:
    return (turn.steps[-1][1].because or None) if turn is not None and turn.steps else None


def live_told(live: Live) -> Json:
    return {
        "totals": {
            "runs": live.runs,
            "sessions": live.sessions,
            "in_flight": live.in_flight,
            "held": live.held,
            "held_bytes": live.held_bytes,
        },
        "replicas": [
            {
                "name": r.name,
                "role": r.role,
                "ready": r.ready,
                "draining": r.draining,
                "capacity_tokens": r.capacity_tokens,
                "held_tokens": r.held_tokens,
                "needed_tokens": r.needed_tokens,
                "running": r.running,
                "waiting": r.waiting,
                "residents": r.residents,
            }
            for r in live.replicas
        ],
    }
