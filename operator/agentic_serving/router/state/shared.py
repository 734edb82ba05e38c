"""Service that runs have attained on all stacks of a pipeline, so that each orders its turns by the run's whole service.

Every stack says what a run's task has attained *there*, as a sum and not as a difference: to hear it twice changes nothing, and what was
missed comes with the next one. A task is told by its beginning, on the wall clock of the stack where the human's message
came; the latest beginning counts, and what belongs to an earlier one is forgotten.

To a later stage of a pipeline what an earlier one wrote looks like a person's words. So the stack where a run's tasks begin is remembered: on
another one a message begins no task if the run was served there, where its tasks begin, since the last message here. Else a person has
turned to this stack, and its tasks begin here from now on.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from agentic_serving.program.service import Service

__all__ = ["Part", "SharedService"]

#: Stacks of one pipeline that are listened to.
_MOST_STACKS = 16
#: Beginnings that are closer are one: kept in milliseconds.
_SAME_S = 0.002


@dataclass(frozen=True, slots=True)
class Part:
    """What a run's task has attained on one stack. `since_s`: wall clock; 0: its beginning was not seen there."""

    run: str
    since_s: float
    tokens: int


@dataclass(slots=True)
class _Elsewhere:
    """A run beyond this stack. `begins`: where its tasks begin, empty: here; `served`: it was there since the last message here."""

    since_s: float = 0.0
    begins: str = ""
    served: bool = False
    others: dict[str, int] = field(default_factory=dict)


class SharedService(Service):
    """Answers at once, from what this stack knows; `changes` and `heard` go to and come from the others.

    Attributes:
        offset_s: wall clock less the host's clock.
    """

    def __init__(self, *, max_runs: int = 100_000) -> None:
        super().__init__(max_runs=max_runs)
        self.offset_s = 0.0
        self._most = max_runs
        self._runs: OrderedDict[str, _Elsewhere] = OrderedDict()
        self._changed: dict[str, None] = {}

    def begin_task(self, run: str, now_s: float) -> None:
        known = self._known(run)
        if known.begins and known.served:
            known.served = False
            return
        self._bring(run)
        super().begin_task(run, now_s)
        known.since_s, known.begins = now_s + self.offset_s, ""
        known.others.clear()
        self._changed[run] = None

    def charge(self, run: str, uncached_tokens: int, now_s: float) -> None:
        super().charge(run, uncached_tokens, now_s)
        self._known(run)
        self._changed[run] = None

    def attained(self, run: str) -> int:
        return super().attained(run) + self._elsewhere(run)

    def end(self, run: str) -> None:
        super().end(run)
        self._runs.pop(run, None)
        self._changed.pop(run, None)

    def others(self, run: str) -> Mapping[str, int]:
        """What it has attained elsewhere, by stack."""
        known = self._runs.get(run)
        return dict(known.others) if known else {}

    def since_s(self, run: str) -> float:
        """When its task began, on the wall clock; 0: not known."""
        known = self._runs.get(run)
        return known.since_s if known else 0.0

    def restore_others(self, run: str, since_s: float, others: Mapping[str, int]) -> None:
        """What the process before this one knew; what was heard since is newer."""
        if run not in self._runs and len(self._runs) < self._most:
            known = self._known(run)
            known.since_s = since_s
            known.others = dict(islice(others.items(), _MOST_STACKS))

    def changes(self, limit: int) -> list[Part]:
        """What others have not been told; each run once, however often it changed. Taken out: give back what was not sent."""
        found = []
        for run in list(islice(self._changed, limit)):
            del self._changed[run]
            found.append(Part(run, self.since_s(run), super().attained(run)))
        return found

    def give_back(self, parts: list[Part]) -> None:
        """They could not be told."""
        self._changed = {**{part.run: None for part in parts if part.run in self._runs}, **self._changed}

    def heard(self, stack: str, part: Part) -> None:
        """Another stack's part."""
        known = self._known(part.run)
        if part.since_s > known.since_s + _SAME_S:
            if known.since_s:  # a task of which nothing is known yet is the one that has just been told of
                super().end(part.run)
                known.others.clear()
            known.since_s, known.begins = part.since_s, stack
        elif 0 < part.since_s < known.since_s - _SAME_S:
            return
        known.served = known.served or (stack == known.begins and known.others.get(stack) != part.tokens)
        if stack in known.others or len(known.others) < _MOST_STACKS:
            known.others[stack] = part.tokens

    def _bring(self, run: str) -> None:
        """What was attained elsewhere counts for how fast tasks attain service."""
        elsewhere = self._elsewhere(run)
        if elsewhere and (task := self._tasks.get(run)) is not None:
            task.tokens += elsewhere

    def _elsewhere(self, run: str) -> int:
        known = self._runs.get(run)
        return sum(known.others.values()) if known else 0

    def _known(self, run: str) -> _Elsewhere:
        known = self._runs.get(run)
        if known is None:
            known = self._runs[run] = _Elsewhere()
        self._runs.move_to_end(run)
        if len(self._runs) > self._most:
            gone, _ = self._runs.popitem(last=False)
            self._changed.pop(gone, None)
        return known
