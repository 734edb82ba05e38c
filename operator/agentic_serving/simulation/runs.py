"""A program under way: which of its turns have ended, and what of it is to be reported."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from agentic_serving.capacity.runs import Runs
from agentic_serving.fleet.types import Finished, Request
from agentic_serving.simulation.path import Alone
from agentic_serving.simulation.records import Timed
from agentic_serving.simulation.scripts import Script, Work, shifted
from agentic_serving.simulation.views import TurnHints, TurnView

__all__ = ["Call", "Run"]


@dataclass(slots=True)
class Call:
    """A turn that has arrived: what the router sees of it, and what it really is.

    Attributes:
        view: of one try; every try is another object.
        prefill: the replica that prefills it, where that is another one.
        prefilled: how it did; None: its KV is nowhere else.
        begun: a token of this try's answer has come.
        over: this try has ended, with an answer or without.
    """

    run: "Run"
    at: int  # position in the script
    view: TurnView
    placed_s: float = inf
    replica: int = -1
    prefill: int | None = None
    prefilled: Finished | None = None
    begun: bool = False
    over: bool = False

    @property
    def id(self) -> str:
        """The same for every try."""
        return f"{self.view.session}/{self.view.index}"

    @property
    def first_s(self) -> float:
        """When it arrived for the first time."""
        return self.run.arrived_s[self.at]

    @property
    def work(self) -> Work:
        return self.run.script.works[self.at]

    @property
    def runs(self) -> Runs:
        """The prompt's blocks and the answer's."""
        return shifted(self.work.runs, self.run.offset)

    def request(self) -> Request:
        work = self.work
        return Request(
            id=self.view.id,
            runs=self.runs,
            prompt_tokens=work.prompt_tokens,
            output_tokens=work.output_tokens,
            remote_tokens=work.prompt_tokens if self.prefilled else 0,
        )

    def prefill_request(self) -> Request:
        """What a replica gets that only prefills: one token, and the KV is kept until it has been fetched."""
        view = self.view
        return Request(
            id=view.id, runs=view.runs, prompt_tokens=view.prompt_tokens, output_tokens=1, hold_kv=True
        )

    def again(self, now_s: float) -> "Call":
        """The client tries once more."""
        retry = self.view.retry + 1
        view = replace(self.view, id=f"{self.id}~{retry}", arrived_s=now_s, retry=retry)
        return Call(self.run, self.at, view)


@dataclass(slots=True)
class Run:
    """One instance of a script. Its block ids are moved by `offset`, so that instances share nothing by accident.

    Attributes:
        router: the number of the router that its connections go to.
        hints: what its client declares, by position.
        given_up: its client has.
    """

    name: str
    script: Script
    alone: Alone
    offset: int
    started_s: float
    router: int = 0
    hints: Sequence[TurnHints] | None = None
    given_up: bool = False
    waits: list[int] = field(init=False)
    arrived_s: dict[int, float] = field(default_factory=dict)
    ended_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waits = [work.waits for work in self.script.works]

    @property
    def over(self) -> bool:
        return len(self.ended_s) == len(self.script.works)

    def arrive(self, at: int, now_s: float) -> Call:
        """A turn's inputs are there and its gap has passed."""
        work = self.script.works[at]
        self.arrived_s[at] = now_s
        session = f"{self.name}/{work.session}"
        view = TurnView(
            id=f"{session}/{work.index}",
            program=self.name,
            session=session,
            parent=None if work.parent is None else f"{self.name}/{work.parent}",
            index=work.index,
            kind=work.kind,
            runs=shifted(work.prompt_runs, self.offset),
            prompt_tokens=work.prompt_tokens,
            arrived_s=now_s,
            agent=work.agent,
            hints=None if self.hints is None else self.hints[at],
        )
        return Call(self, at, view)

    def end(self, at: int, now_s: float) -> list[tuple[float, int]]:
        """A turn has ended: the turns that have now all their inputs, and when they arrive."""
        self.ended_s[at] = now_s
        ready: list[tuple[float, int]] = []
        for dependent in self.script.works[at].dependents:
            self.waits[dependent] -= 1
            if not self.waits[dependent]:
                ready.append((now_s + self.script.works[dependent].gap_s, dependent))
        return ready

    def tasks(self, now_s: float) -> list[Timed]:
        """Every task that has begun, as of now."""
        return [
            self._timed(f"{self.name}/task{number}", self.arrived_s[span.first], span.last, alone_s, now_s)
            for number, (span, alone_s) in enumerate(zip(self.script.tasks, self.alone.tasks_s, strict=True))
            if span.first in self.arrived_s
        ]

    def timed(self, now_s: float) -> Timed:
        """The whole run, without the root's human gaps that have passed."""
        end_s = max(self.ended_s.values()) if self.over else now_s
        human_s = self.script.human_s if self.over else self._human_s(now_s)
        return Timed(
            id=self.name,
            arrived_s=self.started_s,
            took_s=end_s - self.started_s - human_s,
            alone_s=self.alone.run_s,
            finished=self.over,
        )

    def _timed(self, name: str, arrived_s: float, last: int, alone_s: float, now_s: float) -> Timed:
        ended_s = self.ended_s.get(last)
        took_s = (now_s if ended_s is None else ended_s) - arrived_s
        return Timed(
            id=name, arrived_s=arrived_s, took_s=took_s, alone_s=alone_s, finished=ended_s is not None
        )

    def _human_s(self, now_s: float) -> float:
        """Human gaps of the root so far; of one that is under way what has passed."""
        passed_s = 0.0
        root = self.script.works[0].session
        for work in self.script.works:
            if work.session != root or not work.index or work.kind != "human":
                continue
            before_s = max((self.ended_s.get(one, inf) for one in work.after), default=inf)
            passed_s += max(min(work.gap_s, now_s - before_s), 0.0)
        return passed_s
