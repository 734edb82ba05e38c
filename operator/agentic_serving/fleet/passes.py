"""A step in progress: one forward pass, or several alike that can still be cut short.

Passes are alike while the same requests decode and nobody ends, or while one prompt is so long that its chunk fills
every pass beside them. Simulations skip over them; the results are those of stepping.
"""

from bisect import bisect_left
from dataclasses import dataclass

from agentic_serving.fleet.plan import Plan
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.scheduler import Scheduler
from agentic_serving.fleet.types import Step

__all__ = ["Passes", "one_pass"]

#: Passes over one prompt that are timed ahead: 131,072 tokens at vLLM's 8,192 a pass. Whatever arrives cuts them, and
#: the rest was timed in vain.
_MOST_PROMPT_PASSES = 16


@dataclass(slots=True)
class Passes:
    """A step and what it is made of. Pass `i` (from 0) takes `first_s + i * slope_s`, or ends at `ends_s[i]`."""

    step: Step
    plan: Plan
    profile: StepProfile
    first_s: float
    context: int  # tokens that the first pass's decodes read
    ends_s: list[float]  # of passes over a prompt, added up as single steps are; else empty

    def end_s(self, n_steps: int) -> float:
        """When so many passes are over."""
        if self.ends_s:
            return self.ends_s[n_steps - 1]
        return self.step.start_s + self._decode_s(n_steps)

    def steps_until(self, at_s: float, most: int) -> int:
        """The fewest passes, 1 to `most`, that end at or after a moment."""
        if self.ends_s:
            return min(most, 1 + bisect_left(self.ends_s, at_s))
        after_s = at_s - self.step.start_s
        if self._decode_s(most) <= after_s:
            return most
        return min(most, 1 + bisect_left(range(1, most + 1), after_s, key=self._decode_s))

    def cut(self, n_steps: int) -> None:
        """Set how many passes it has."""
        if n_steps != self.step.n_steps:
            self.step = self.step._replace(n_steps=n_steps, end_s=self.end_s(n_steps))

    def extend(self, scheduler: Scheduler, wake_s: float | None, most: int) -> None:
        """As many passes as are like the first, at most `most`; `wake_s`: when a load comes in."""
        plan = self.plan
        if plan.preempted:
            return
        if not self.step.prefill_tokens:
            if not plan.admitted and len(plan.items) == len(scheduler.running):
                self.cut(self._decodes(scheduler, wake_s, most))
        elif not plan.budget and all(tier.stores_on == "finish" for tier in scheduler.tiers):
            self._time_prompt(self._prompt_passes(scheduler, most))

    def _decode_s(self, n_steps: int) -> float:
        slope_s = self.profile.context_token_s * self.step.decode_tokens
        return n_steps * self.first_s + slope_s * (n_steps * (n_steps - 1) // 2)

    def _decodes(self, scheduler: Scheduler, wake_s: float | None, most: int) -> int:
        """The same requests decode, and nobody ends before the last pass.

        Who waits goes on waiting: the queue has just been tried, and free blocks only become fewer. That is exact
        but for two cases, which are looked at again only at the step's end: a write that arrives in a tier, and
        answers that have blocks in common with each other or with a waiting prompt.
        """
        most = min(most, min([sequence.remaining for sequence, _ in self.plan.items]))
        if wake_s is not None:
            most = self.steps_until(wake_s, most)
        return scheduler.fitting(self.plan.items, most)

    def _prompt_passes(self, scheduler: Scheduler, most: int) -> int:
        """The last request's prompt takes what the others' decoding leaves of every pass, and does not end.

        Who waits is not even looked at, because no tokens are left for it.
        """
        items = self.plan.items
        prompt, chunk = items[-1]
        if prompt.decoding or len(items) != self.step.decode_tokens + 1:
            return 1
        most = min(most, _MOST_PROMPT_PASSES, (prompt.tokens - prompt.computed - 1) // chunk)
        if len(items) > 1:
            most = min(most, min([sequence.remaining for sequence, _ in items[:-1]]))
        return scheduler.fitting(items, most) if most > 1 else 1

    def _time_prompt(self, n_steps: int) -> None:
        if n_steps < 2:
            return
        step, step_s = self.step, self.profile.step_s
        prompt, chunk = self.plan.items[-1]
        decodes, triangle = step.decode_tokens, chunk * (chunk + 1) // 2
        end_s = step.end_s
        self.ends_s.append(end_s)
        for i in range(1, n_steps):
            pairs = chunk * (prompt.computed + i * chunk) + triangle
            end_s += step_s(chunk, pairs, decodes, self.context + i * decodes)
            self.ends_s.append(end_s)
        self.cut(n_steps)


def one_pass(plan: Plan, profile: StepProfile) -> Passes:
    """The first pass of a plan, timed."""
    prefill = attention = decodes = context = 0
    for sequence, count in plan.items:
        computed = sequence.computed
        if sequence.emitted and computed == sequence.tokens - 1:
            decodes += 1
            context += computed + 1
        else:
            prefill += count
            attention += count * computed + count * (count + 1) // 2
    first_s = profile.step_s(prefill, attention, decodes, context)
    scheduled = tuple([(sequence.id, count) for sequence, count in plan.items])
    step = Step(plan.now_s, plan.now_s + first_s, 1, prefill, decodes, scheduled)
    return Passes(step, plan, profile, first_s, context, [])
