"""controller.status and recorder: what is news, when it is written, and what becomes an Event."""

from typing import Any

import pytest

from agentic_serving.clock import ManualClock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.port import Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.keys import Key
from agentic_serving.controller.recorder import Note, Recorder
from agentic_serving.controller.status import Draft, News, StatusWriter, compose, news
from agentic_serving.errors import Conflict, Forbidden, Unavailable
from tests.unit.controller.world import NS, stack

KEY = Key("AgenticServingStack", NS, "chat")
TYPES = ("Ready", "Accepted", "Reconciling", "Stalled")


def draft(ready: bool = False, *, reason: str = "Progressing", message: str = "", count: int = 0) -> Draft:
    made = Draft(types=TYPES, fields={"roles": [{"name": "Router", "replicas": 1, "ready": count}]})
    made.set("Ready", holds=ready, reason=reason, message=message)
    made.set("Accepted", holds=True, reason="Accepted")
    return made


class Desk:
    """A status writer with its surroundings."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = FakeCluster(clock=self.clock)
        self.store = ObjectStore()
        numbers = iter(range(10_000))
        self.recorder = Recorder(
            self.cluster, self.clock, identity="me", unique=lambda: f"{next(numbers):016x}"
        )
        self.writer = StatusWriter(self.cluster, self.store, self.clock, self.recorder, interval_s=60)
        self.cluster.seed(kinds.STACK, stack())

    def live(self) -> Manifest:
        found = self.cluster.peek(kinds.STACK, NS, "chat")
        assert found is not None
        return found

    async def write(self, what: Draft) -> float | None:
        """When to come back; None when it was written or need not be."""
        return (await self.writer.write(KEY, self.live(), what)).after_s

    def n_writes(self) -> int:
        return sum(c.verb == "apply_status" for c in self.cluster.calls)

    def events(self) -> list[tuple[str, str]]:
        return [(e["type"], e["reason"]) for e in self.cluster.objects(kinds.EVENT)]


BASE = compose({}, draft(), generation=1, clock=ManualClock())


def changed(**fields: Any) -> Manifest:
    return {**BASE, **fields}


def with_condition(type_: str, **fields: Any) -> Manifest:
    return changed(conditions=[{**c, **fields} if c["type"] == type_ else c for c in BASE["conditions"]])


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (BASE, News.NONE),
        (with_condition("Ready", lastTransitionTime="2030-01-01T00:00:00Z"), News.NONE),
        (with_condition("Ready", status="True"), News.PROMPT),
        (with_condition("Accepted", status="False"), News.PROMPT),
        (with_condition("Stalled", status="True"), News.PROMPT),
        (changed(observedGeneration=2), News.PROMPT),
        (with_condition("Ready", reason="PodsFailing"), News.CHANGE),
        (with_condition("Reconciling", status="True"), News.CHANGE),
        (changed(capabilities=[{"intent": "X"}]), News.CHANGE),
        (with_condition("Ready", message="1 of 2"), News.PROGRESS),
        (changed(replicas="1/2"), News.PROGRESS),
        (changed(roles=[{"name": "Router", "replicas": 1, "ready": 1}]), News.PROGRESS),
        (changed(roles=[{"name": "Router", "replicas": 2}]), News.CHANGE),
    ],
    ids=[
        "same", "times do not count", "Ready flips", "Accepted flips", "Stalled flips", "generation",
        "a reason", "another condition", "a capability", "a message", "replicas", "ready count", "wanted count",
    ],
)  # fmt: skip
def test_what_is_news(new: Manifest, expected: News) -> None:
    assert news(BASE, new) is expected


def test_every_condition_is_there_from_the_first_write() -> None:
    assert {c["type"]: c["status"] for c in BASE["conditions"]} == {
        "Ready": "False", "Accepted": "True", "Reconciling": "Unknown", "Stalled": "Unknown"
    }  # fmt: skip


def test_what_nobody_speaks_of_stays_as_it_was() -> None:
    later = compose(BASE, Draft(types=TYPES), generation=2, clock=ManualClock())
    assert later["observedGeneration"] == 2
    assert later["conditions"] == BASE["conditions"]  # with the generation that they were seen at
    assert later["roles"] == BASE["roles"]


def test_times_move_only_when_the_status_flips() -> None:
    clock = ManualClock()
    clock.advance(60)
    same = compose(BASE, draft(message="other words"), generation=2, clock=clock)
    flipped = compose(BASE, draft(ready=True, reason="Ready"), generation=2, clock=clock)
    assert same["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert flipped["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:01:00Z"


@pytest.mark.parametrize(
    "conditions",
    [
        [7],
        [{"type": "Ready"}],
        [{"type": "Stranger", "status": "True", "reason": "X", "lastTransitionTime": "t"}],
    ],
    ids=["no map", "incomplete", "unknown type"],
)
def test_a_damaged_status_is_made_anew(conditions: list[Any]) -> None:
    made = compose({"conditions": conditions}, draft(), generation=1, clock=ManualClock())
    assert made["conditions"] == BASE["conditions"]


async def test_prompt_news_are_written_at_once_and_nothing_twice() -> None:
    desk = Desk()
    assert await desk.write(draft()) is None
    assert await desk.write(draft()) is None
    assert desk.n_writes() == 1
    assert await desk.write(draft(ready=True, reason="Ready")) is None
    assert desk.n_writes() == 2


async def test_progress_waits_a_minute_and_is_overtaken_by_ready() -> None:
    desk = Desk()
    await desk.write(draft())
    desk.clock.advance(50)
    assert await desk.write(draft(count=1)) == 60  # counted from when it was first seen
    desk.clock.advance(59)
    assert await desk.write(draft(count=1)) == 1
    assert await desk.write(draft(ready=True, reason="Ready", count=1)) is None
    assert desk.n_writes() == 2


async def test_progress_that_lasts_is_written_once_a_minute() -> None:
    desk = Desk()
    await desk.write(draft())
    for second in range(300):
        desk.clock.advance(1)
        await desk.write(draft(count=second))
    assert 4 <= desk.n_writes() - 1 <= 5


async def test_a_change_is_written_a_minute_after_the_last_write() -> None:
    desk = Desk()
    await desk.write(draft())
    desk.clock.advance(45)
    assert await desk.write(draft(reason="PodsFailing")) == 15
    desk.clock.advance(15)
    assert await desk.write(draft(reason="PodsFailing")) is None
    assert desk.n_writes() == 2


async def test_a_recreated_object_is_not_written_by_mistake() -> None:
    """Check 04 of docs/checks.md."""
    desk = Desk()
    old = desk.live()
    desk.cluster.drop(kinds.STACK, NS, "chat")
    desk.cluster.seed(kinds.STACK, stack())
    with pytest.raises(Conflict):
        await desk.writer.write(KEY, old, draft())
    assert "status" not in desk.live()


async def test_an_object_that_is_gone_is_nobodys_problem() -> None:
    desk = Desk()
    old = desk.live()
    desk.cluster.drop(kinds.STACK, NS, "chat")
    assert (await desk.writer.write(KEY, old, draft())).error is None


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([draft()], []),
        ([draft(reason="InvalidSpec")], [("Warning", "InvalidSpec")]),
        ([draft(), draft(ready=True, reason="Ready")], [("Normal", "Ready")]),
        (
            [draft(), draft(reason="RouterUnavailable"), draft(ready=True, reason="Ready")],
            [("Normal", "Ready")],
        ),
        (
            [draft(ready=True, reason="Ready"), draft(reason="RouterUnavailable")],
            [("Normal", "Ready"), ("Warning", "RouterUnavailable")],
        ),
        ([draft(ready=True, reason="Ready"), draft(ready=True, reason="Ready")], [("Normal", "Ready")]),
        ([draft(), draft(reason="PodsFailing")], [("Warning", "PodsFailing")]),
    ],
    ids=["first sight", "wrong at once", "up", "the usual way up", "down", "no change", "trouble"],
)
async def test_transitions_become_events(story: list[Draft], expected: list[tuple[str, str]]) -> None:
    desk = Desk()
    for what in story:
        await desk.write(what)
        desk.clock.advance(60)
    assert desk.events() == expected


async def test_no_event_before_the_status_is_written() -> None:
    desk = Desk()
    desk.cluster.fail_next(Unavailable("no"), verb="apply_status")
    with pytest.raises(Unavailable):
        await desk.write(draft(reason="InvalidSpec"))
    assert desk.events() == []


async def test_a_lost_event_does_no_harm() -> None:
    desk = Desk()
    desk.cluster.fail_next(Forbidden("no"), verb="create")
    assert await desk.write(draft(reason="InvalidSpec")) is None
    assert desk.events() == []


async def test_events_are_bounded_per_object() -> None:
    """Check 21 of docs/checks.md."""
    desk = Desk()
    about = desk.live()
    note = Note(type="Normal", reason="R", message="m" * 5000)
    told = [await desk.recorder.record(about, note) for _ in range(40)]
    assert told == [True] * 25 + [False] * 15
    desk.clock.advance(600)
    assert [await desk.recorder.record(about, note) for _ in range(3)] == [True, True, False]
    event = desk.cluster.objects(kinds.EVENT)[0]
    assert len(event["note"]) == 1024
    assert event["regarding"]["uid"] == about["metadata"]["uid"]
