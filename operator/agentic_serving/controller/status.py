"""The one place that writes status: compose, compare, pace, apply, and only then tell of transitions.

A status is written when it says something new. News that people wait for (a new generation, a flip of Ready,
Accepted or Stalled) is written at once; progress waits, so that a rollout costs two writes and not one per pod.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import ValidationError

from agentic_serving.api.base import Condition
from agentic_serving.api.conditions import Reason, Status, find_condition, same_status, set_condition
from agentic_serving.clock import Clock
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.keys import Key
from agentic_serving.controller.outcome import DONE, Outcome
from agentic_serving.controller.recorder import Note, Recorder
from agentic_serving.errors import NotFound

__all__ = ["Draft", "News", "StatusWriter", "compose", "news"]

_log = logging.getLogger(__name__)
#: Flips of these are written at once: kstatus and `kubectl wait` look at them, or they are what the kind is about.
_PROMPT = ("Ready", "Accepted", "Stalled", "Enforced", "Overlapping", "SchedulerHealthy")
#: Transitions of these become Events.
_TOLD = ("Accepted", "Applied", "Ready", "SchedulerHealthy", "SLOMet", "Enforced", "Overlapping")
#: Reasons that are the normal way of things: no Warning, and no Event where nothing was said before.
_CALM: tuple[str, ...] = (Reason.PROGRESSING, Reason.PENDING, Reason.NO_STACKS, Reason.NO_OVERLAP)
#: Reasons that every new object passes through: news only where things were well before.
_EARLY = (*_CALM, Reason.REPLICAS_UNAVAILABLE, Reason.ROUTER_UNAVAILABLE)
_NOTHING_YET = "the operator has not looked at this yet"


@dataclass(slots=True)
class Draft:
    """What a reconcile has to say; steps add to it, the writer writes it once.

    Attributes:
        types: every condition type of the kind: those that nobody sets become Unknown at first, and stay as
            they were later.
        fields: other fields of the status by their JSON names; absent keeps the old value, None removes it.
    """

    types: tuple[str, ...]
    conditions: dict[str, tuple[Status, str, str]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)

    def set(self, type: str, *, holds: bool | None, reason: str, message: str = "") -> None:  # noqa: A002 - metav1.Condition
        """State a condition; `holds` None is Unknown."""
        status: Status = "Unknown" if holds is None else "True" if holds else "False"
        self.conditions[str(type)] = (status, str(reason), message)


class News(Enum):
    """How much a status says that was not known."""

    NONE = "none"
    PROGRESS = "progress"  # counts and messages
    CHANGE = "change"  # a reason, a capability, a less prompt condition
    PROMPT = "prompt"


@dataclass(slots=True)
class _Pace:
    written_s: float | None = None
    progress_s: float | None = None  # when unwritten progress was first seen


class StatusWriter:
    """Writes statuses of our three kinds."""

    def __init__(
        self, cluster: Cluster, store: ObjectStore, clock: Clock, recorder: Recorder, *, interval_s: float
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._recorder = recorder
        self._interval_s = interval_s
        self._paces: dict[Key, _Pace] = {}

    async def write(self, key: Key, raw: Manifest, draft: Draft) -> Outcome:
        """Write what is new, now or (`Outcome.after_s`) when its time has come.

        Raises:
            ClusterError: it could not be written.
        """
        old = raw.get("status") or {}
        new = compose(old, draft, generation=raw["metadata"].get("generation", 0), clock=self._clock)
        pace = self._paces.setdefault(key, _Pace())
        wait_s = self._wait_s(news(old, new), pace)
        if wait_s is None or wait_s > 0:
            return DONE if wait_s is None else Outcome(after_s=wait_s)
        try:
            answer = await self._cluster.apply_status(key.resource, _manifest(raw, new))
        except NotFound:
            return DONE  # deleted meanwhile; the event is on its way
        if answer["metadata"].get("generation") == raw["metadata"].get("generation"):
            self._store.put(key.resource, answer)  # else it holds an edit, which is for its event to tell
        self._paces[key] = _Pace(written_s=self._clock.monotonic_s())
        for note in _notes(old, new):
            await self._recorder.record(raw, note)
        return DONE

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._paces.pop(key, None)

    def _wait_s(self, told: News, pace: _Pace) -> float | None:
        """Seconds until the status may be written; None if there is nothing to write."""
        now_s = self._clock.monotonic_s()
        if told is not News.PROGRESS:
            pace.progress_s = None
        if told is News.NONE:
            return None
        if told is News.PROMPT:
            return 0.0
        since_s = pace.written_s
        if told is News.PROGRESS:
            # Counted from when the progress began as well: what becomes Ready soon needs no report in between.
            pace.progress_s = now_s if pace.progress_s is None else pace.progress_s
            since_s = max(pace.progress_s, -1.0 if since_s is None else since_s)
        return 0.0 if since_s is None else max(0.0, since_s + self._interval_s - now_s)


def compose(old: Mapping[str, Any], draft: Draft, *, generation: int, clock: Clock) -> Manifest:
    """The whole status: what the draft says over what was there."""
    conditions = tuple(_readable(old.get("conditions") or (), draft.types))
    for type_ in draft.types:
        said = draft.conditions.get(type_)
        if said is None and find_condition(conditions, type_) is not None:
            continue  # as it was, with the generation that it was seen at
        status, reason, message = said or ("Unknown", Reason.PENDING, _NOTHING_YET)
        conditions = set_condition(
            conditions,
            type=type_,
            status=status,
            reason=reason,
            message=message,
            generation=generation,
            now=clock.now(),
        )
    kept = {k: v for k, v in old.items() if k not in ("conditions", "observedGeneration")}
    fields = {k: v for k, v in (kept | draft.fields).items() if v is not None}
    return {"observedGeneration": generation, "conditions": [c.to_dict() for c in conditions], **fields}


def news(old: Mapping[str, Any], new: Mapping[str, Any]) -> News:
    """What the new status says that the old one did not."""
    if same_status(old, new):
        return News.NONE
    if _prompt(old) != _prompt(new):
        return News.PROMPT
    return News.PROGRESS if same_status(_skeleton(old), _skeleton(new)) else News.CHANGE


def _prompt(status: Mapping[str, Any]) -> tuple[Any, ...]:
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
    return status.get("observedGeneration"), *(conditions.get(t) for t in _PROMPT)


def _skeleton(status: Mapping[str, Any]) -> Manifest:
    """The status without counts and messages."""
    return {
        **{k: v for k, v in status.items() if k != "replicas"},
        "conditions": [
            {k: v for k, v in c.items() if k != "message"} for c in status.get("conditions") or ()
        ],
        "roles": [
            {k: v for k, v in r.items() if k not in ("ready", "updated")} for r in status.get("roles") or ()
        ],
    }


def _readable(conditions: Iterable[Any], types: tuple[str, ...]) -> Iterable[Condition]:
    """The conditions of ours that fit our type. Others are dropped: the status is ours to recompute."""
    for condition in conditions:
        try:
            parsed = Condition.model_validate(condition)
        except ValidationError:
            continue
        if parsed.type in types:
            yield parsed


def _manifest(raw: Manifest, status: Manifest) -> Manifest:
    metadata = raw["metadata"]
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        # The uid is a precondition: a re-created object of the same name is another one.
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "status": status,
    }


def _notes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Note]:
    """One Event per transition; conditions that say the same say it once."""
    before = {c.get("type"): (c.get("status"), c.get("reason")) for c in old.get("conditions") or ()}
    notes: dict[tuple[str, str], Note] = {}
    for condition in new["conditions"]:
        type_, now = condition["type"], (condition["status"], condition["reason"])
        if type_ not in _TOLD or before.get(type_) == now or not _worth_telling(before.get(type_), condition):
            continue
        good = (condition["status"] == "True") is (type_ != "Overlapping")
        calm = good or condition["reason"] in _CALM
        note = Note(
            type="Normal" if calm else "Warning",
            reason=condition["reason"],
            message=condition.get("message", ""),
        )
        notes.setdefault((note.reason, note.message), note)
    return list(notes.values())


def _worth_telling(before: tuple[Any, Any] | None, condition: Mapping[str, Any]) -> bool:
    """At first sight only Ready and what is wrong; later whatever moved, but for the usual way to Ready."""
    status, reason = condition["status"], condition["reason"]
    was = before[0] if before is not None else "Unknown"
    if status == "Unknown":
        return False
    if was == "Unknown":
        return bool(condition["type"] == "Ready" or status == "False") and reason not in _EARLY
    return was != status or reason not in _EARLY
