"""`reconcile(key)`: read, decide, act, report. It takes a key and works from what is there, whatever happened."""

import logging
from collections.abc import Awaitable, Callable

from agentic_serving.api.conditions import StackCondition
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.apply import check_term
from agentic_serving.controller.context import Parts, StackPass
from agentic_serving.controller.keys import Key
from agentic_serving.controller.outcome import DONE, Outcome, verdict
from agentic_serving.controller.policy import draft_policy
from agentic_serving.controller.program import draft_program
from agentic_serving.controller.stack import StackSteps
from agentic_serving.controller.status import Draft
from agentic_serving.controller.troubles import Troubles
from agentic_serving.errors import ClusterError, Waiting

__all__ = ["Reconciler"]

_log = logging.getLogger(__name__)
#: Programs and policies look again when several of their stacks have had time to move: one policy on 500 stacks
#: is reconciled once for many of them.
_DEPENDENTS_AFTER_S = 1.0

#: Passes in a row without an answer before the status says so: a hiccup is not news.
_UNAVAILABLE_AFTER = 3

Step = Callable[[StackPass], Awaitable[Outcome]]


class Reconciler:
    """Brings one object at a time to what it asks for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._troubles = Troubles(parts.cluster, parts.clock, after_s=parts.pod_report_after_s)
        self._stack = StackSteps(parts, self._troubles)
        self._steps: tuple[Step, ...] = (
            self._stack.accept,
            self._stack.plan,
            self._stack.apply,
            self._stack.prune,
            self._stack.observe,
        )

    async def reconcile(self, key: Key, *, failures: int = 0) -> Outcome:
        """One pass. Never raises: what went wrong is in the outcome.

        Args:
            failures: passes over this key in a row that failed before.
        """
        raw = self._parts.store.get(key.resource, key.namespace, key.name)
        if raw is None:
            return self._gone(key)
        if "deletionTimestamp" in raw["metadata"]:
            return DONE  # garbage collection does the rest
        try:
            if key.kind == "AgenticServingStack":
                return await self._reconcile_stack(key, raw, failures)
            return await self._reconcile_reported(key, raw)
        except Exception as error:  # noqa: BLE001 - one object must not stop the others, whatever it holds
            return self._failed(key, error)

    async def _reconcile_stack(self, key: Key, raw: Manifest, failures: int) -> Outcome:
        work = StackPass(key=key, failures=failures, raw=raw)
        try:
            outcome = await self._run(work)
        except Exception as error:  # noqa: BLE001 - as in `reconcile`, but this one is told in the status
            if not _tell_interruption(work, error):
                return self._failed(key, error)
            outcome = self._failed(key, error)
        if work.superseded:
            return outcome
        written = await self._write(key, raw, work.draft)
        if outcome.error is None or work.observation is not None:
            self._show(work)
        return outcome.then(written)

    def _show(self, work: StackPass) -> None:
        """Put the pass on the board; who depends on the stack looks at what is new."""
        if self._parts.board.put(work.key, self._stack.view(work)):
            self._wake_dependents(work.key)

    async def _run(self, work: StackPass) -> Outcome:
        """The steps in order, until one says stop."""
        outcome = DONE
        for step in self._steps:
            result = await step(work)
            outcome = outcome.then(result)
            if not result.proceed:
                break
        return outcome

    async def _reconcile_reported(self, key: Key, raw: Manifest) -> Outcome:
        """Programs and policies own nothing: they only report."""
        parts = self._parts
        draft: Draft | None
        if key.kind == "AgentProgram":
            draft = draft_program(key, raw, parts.store, parts.board, parts.reports)
        else:
            draft = draft_policy(key, raw, parts.references, parts.board)
        if draft is None:
            return DONE  # the stack that is still to be looked at brings it back
        return await self._write(key, raw, draft)

    async def _write(self, key: Key, raw: Manifest, draft: Draft) -> Outcome:
        try:
            check_term(self._parts)
        except Waiting as error:
            return Outcome(after_s=error.after_s)
        return await self._parts.status.write(key, raw, draft)

    def _gone(self, key: Key) -> Outcome:
        """Forget the object; who refers to it looks again."""
        self._parts.status.forget(key)
        self._troubles.forget(key)
        if self._parts.board.remove(key):
            self._wake_dependents(key)
        return DONE

    def _wake_dependents(self, key: Key) -> None:
        for referrer in self._parts.references.referrers(key):
            self._parts.queue.add(referrer, after_s=_DEPENDENTS_AFTER_S)
        for target in self._parts.references.targets(key):
            self._parts.queue.add(target, after_s=_DEPENDENTS_AFTER_S)

    def _failed(self, key: Key, error: Exception) -> Outcome:
        if not isinstance(error, ClusterError):
            _log.exception("reconcile failed", extra={"object": str(key)})
        return Outcome(proceed=False, error=error)


def _tell_interruption(work: StackPass, error: Exception) -> bool:
    """State a pass that did not get to its end; False where it is too early to say anything.

    Ready stays as it was where it is about this very generation, else nobody can know it.
    """
    if isinstance(error, ClusterError) and work.failures < _UNAVAILABLE_AFTER:
        return False
    what = (
        str(error)
        if isinstance(error, ClusterError)
        else f"{type(error).__name__}: {error}; please report this"
    )
    reason, message = verdict(error).reason, f"{what}; the operator retries"
    work.draft.set(StackCondition.RECONCILING, holds=True, reason=reason, message=message)
    status = work.raw.get("status") or {}
    if status.get("observedGeneration") != work.raw["metadata"].get("generation"):
        work.draft.set(StackCondition.READY, holds=None, reason=reason, message=message)
    return True
