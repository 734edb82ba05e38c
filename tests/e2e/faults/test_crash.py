"""Check 01: the operator is killed at each of its writes, before and after the effect, and its successor finishes.

One run is left alone and says which calls there are; then there is a run per call. Every run has a namespace and an
operator of its own that is really killed (SIGKILL) and started again, and must end like the run that was left alone.

With one worker, a kill before a write finds the cluster as a kill after the write before it does, and so does a kill at
a read in between. Usually only one of these is tried; AGENTIC_E2E_EXHAUSTIVE=1 tries writes on both sides.
"""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient, Manifest
from tests.e2e.localcluster.calls import Call
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import Rule, Run, When
from tests.e2e.operator_process import USER
from tests.e2e.stacks import aggregated, disaggregated, policy, program

from .operators import ForkServer, Operator
from .snapshots import OWN, first_difference, is_current, snapshot

_OURS = "agentic-serving/"  # the user agent of the operator's own client; kopf's reads only
_TIMEOUT_S = 40.0
_POLL_S = 0.2
_LANES = 3
_WRITES = ("create", "patch", "delete")
#: What may not come in each run, or not as often: it depends on what was seen together.
_VARIES = ("events", "agenticservingstacks", "agentprograms", "kvtierpolicies")

Change = Callable[[ApiClient, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A call by what it asks for, and how many alike came before it in its run."""

    verb: str
    resource: str
    subresource: str
    name: str
    nth: int = 0
    when: When = "before"

    @classmethod
    def of(cls, call: Call) -> "Point":
        name = "" if call.resource == "leases" else call.name  # each run has another
        return cls(verb=call.verb, resource=call.resource, subresource=call.subresource, name=name)

    def matches(self, call: Call) -> bool:
        return call.user_agent.startswith(_OURS) and Point.of(call) == replace(self, nth=0, when="before")

    def __str__(self) -> str:
        what = "/".join(p for p in (self.resource, self.subresource, self.name) if p)
        return f"{self.when} {self.verb} {what} #{self.nth}"


def create(api: ApiClient, namespace: str) -> None:
    """Everything that the operator makes children of, without engine pods: nothing here is about pods."""
    for obj in (
        policy("host", backend="LMCache"),
        aggregated("chat", replicas=0, policy="host"),
        disaggregated("split", prefill=0, decode=0),
        program("coding", "chat", "split"),
        program("review", "chat"),
    ):
        api.apply(obj, namespace)


def create_one(api: ApiClient, namespace: str) -> None:
    """What `edit` begins with."""
    for obj in (
        policy("host", backend="LMCache"),
        aggregated("chat", replicas=0, policy="host"),
        program("coding", "chat"),
        program("review", "chat"),
    ):
        api.apply(obj, namespace)


def edit(api: ApiClient, namespace: str) -> None:
    """Children are created, changed and pruned: two pools instead of one, no tier, a program less."""
    api.apply(disaggregated("chat", prefill=0, decode=0), namespace)
    api.delete(kinds.PROGRAM, namespace, "review")


@dataclass
class Story:
    """What happens in each run, and how it went when nobody disturbed it."""

    before: Change | None
    change: Change
    at_first: dict[str, Manifest] = field(default_factory=dict)
    at_last: dict[str, Manifest] = field(default_factory=dict)
    serial: Iterator[int] = field(default_factory=itertools.count)


class Trial:
    """Runs of a story, one after the other, each in a namespace of its own."""

    def __init__(
        self, plane: ControlPlane, forks: ForkServer, proxy: FaultProxy, api: ApiClient, story: Story
    ) -> None:
        self.plane = plane
        self.forks = forks
        self.proxy = proxy
        self.story = story
        self.api = api

    def undisturbed(self) -> list[Point]:
        """The run that says how it should end; the result is its calls, in order."""
        namespace, operator = self._prepared()
        try:
            self.proxy.forget()
            self._go(operator, namespace)
            self.story.at_last = self._at_rest(namespace)
            calls = [one.call for one in self.proxy.seen() if one.call.user_agent.startswith(_OURS)]
        finally:
            operator.kill()
        return list(_numbered(map(Point.of, calls)))

    def killed_at(self, point: Point) -> bool:
        """A run with a kill there; False if the run never came to that call.

        Raises:
            AssertionError: it did not end like the undisturbed run.
        """
        reached = Event()
        namespace, operator = self._prepared()

        def kill() -> None:
            operator.signal(signal.SIGKILL)
            reached.set()

        try:
            action = Run(callback=kill, when=point.when)
            self.proxy.plan(Rule(match=point.matches, nth={point.nth}, action=action))
            self._go(operator, namespace)
            self._until(namespace, self.story.at_last, point, reached=reached)
            if reached.is_set():
                assert operator.wait_exit() == -signal.SIGKILL
                operator.start(wait=False)
            self._until(namespace, self.story.at_last, point)
        finally:
            operator.kill()
            self.proxy.plan()
        return reached.is_set()

    def _prepared(self) -> tuple[str, Operator]:
        """A namespace as it is before the change, and its operator: at rest, or still to be started."""
        namespace = self._namespace()
        # One worker: which call follows which is then the same in each run. A lease of its own, as a cluster has.
        operator = Operator(
            self.forks,
            self.plane,
            via=self.proxy,
            namespaces=[namespace],
            lease_name=namespace,
            workers=1,
            coalesce_s=0.1,
            status_interval_s=0.5,
        )
        if self.story.before is not None:
            self.story.before(self.api, namespace)
            operator.start(wait=False)
            if self.story.at_first:
                self._until(namespace, self.story.at_first, "before the change")
            else:
                self.story.at_first = self._at_rest(namespace)
        return namespace, operator

    def _go(self, operator: Operator, namespace: str) -> None:
        self.story.change(self.api, namespace)
        if self.story.before is None:
            operator.start(wait=False)  # the calls of a start are among those to be killed at

    def _namespace(self) -> str:
        name = f"crash-{self.story.change.__name__}-{next(self.story.serial)}"
        self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def _at_rest(self, namespace: str) -> dict[str, Manifest]:
        """Everything Ready, and unchanged for a second."""
        seen: dict[str, Manifest] = {}
        since_s = time.monotonic()
        deadline_s = since_s + _TIMEOUT_S
        while not seen or time.monotonic() - since_s < 1.0:
            assert time.monotonic() < deadline_s, f"{namespace} does not come to rest"
            now = snapshot(self.api, namespace) if self._ready(namespace) else {}
            if now != seen:
                seen, since_s = now, time.monotonic()
            time.sleep(_POLL_S)
        return seen

    def _ready(self, namespace: str) -> bool:
        return all(is_current(obj) for kind in OWN for obj in self.api.list(kind, namespace))

    def _until(
        self, namespace: str, expected: Mapping[str, Manifest], what: object, *, reached: Event | None = None
    ) -> None:
        """Wait for an event or for an expected end."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not (reached and reached.is_set()):
            seen = snapshot(self.api, namespace) if self._ready(namespace) else {}
            if seen == expected:
                return
            assert time.monotonic() < deadline_s, f"{what}: {first_difference(expected, seen)}"
            time.sleep(_POLL_S)


def _numbered(points: Iterable[Point]) -> Iterable[Point]:
    counts: Counter[Point] = Counter()
    for point in points:
        yield replace(point, nth=counts[point])
        counts[point] += 1


def _chosen(points: Iterable[Point]) -> list[Point]:
    """Writes after their effect, the first of each verb before it as well; of reads the first of each verb."""
    both = "AGENTIC_E2E_EXHAUSTIVE" in os.environ
    chosen: list[Point] = []
    verbs: set[tuple[str, bool]] = set()
    for point in points:
        if point.resource == "leases" and point.verb == "patch":
            continue  # renewals come by the clock
        kind = (point.verb, not point.resource)
        if kind not in verbs or (both and point.verb in _WRITES):
            chosen.append(point)
        if point.verb in _WRITES:
            chosen.append(replace(point, when="after"))
        verbs.add(kind)
    return chosen


@pytest.fixture
def trials(plane: ControlPlane, forks: ForkServer) -> Iterator[Callable[[Story], list[Trial]]]:
    """Makes as many lanes of runs as the machine carries: a run waits for most of its time."""
    with ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(plane)) for _ in range(_LANES)]
        clients = [stack.enter_context(closing(ApiClient(plane, plane.admin_token))) for _ in proxies]
        yield lambda story: [
            Trial(plane, forks, proxy, api, story) for proxy, api in zip(proxies, clients, strict=True)
        ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", [Story(None, create), Story(create_one, edit)], ids=["create", "edit"])
def test_check_01_a_successor_finishes_wherever_the_operator_is_killed(
    plane: ControlPlane,
    trials: Callable[[Story], list[Trial]],
    story: Story,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started_s, mark = time.monotonic(), plane.mark()
    lanes = trials(story)
    points = _chosen(lanes[0].undisturbed())
    reached = _kill_at_each(points, lanes)

    with capsys.disabled():
        took_s = time.monotonic() - started_s
        print(f"\n{story.change.__name__}: killed at {sum(reached)} calls in {took_s:.0f} s", end=" ")
    missed = [p for p, came in zip(points, reached, strict=True) if not came]
    assert len(points) > 12
    assert [str(p) for p in missed if p.resource not in _VARIES and p.nth == 0] == []
    # Nothing was created twice or deleted in passing, in any run.
    audit = plane.writes(since=mark, user=USER, aside=("leases", "events"))
    created = Counter((e.namespace, e.resource, e.name) for e in audit if e.code == 201)
    assert [key for key, n in created.items() if n > 1] == []
    wanted = {p.name for p in points if p.verb == "delete"}
    assert [str(e) for e in audit if e.verb == "delete" and e.name not in wanted] == []


def _kill_at_each(points: list[Point], lanes: list[Trial]) -> list[bool]:
    """For each point whether its run came there."""
    free: SimpleQueue[Trial] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(point: Point) -> bool:
        lane = free.get()
        try:
            return lane.killed_at(point)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(run, points))
