"""The policy's switches and parameters, with where each number comes from.

"Tuning half" below means: chosen on the sessions of `simulation.halves` "tuning" at 1.5 to 3 times KV demand, as the middle
of a range within which completion changes by less than 3 % (docs/scheduling.md has the curves).
"""

from dataclasses import dataclass, replace

from agentic_serving.errors import InvalidInput

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the scheduler does. Tokens and seconds.

    Attributes:
        hold: keep turns that would evict state which is about to be used. Off: every turn goes at once.
        stay: a turn goes to the replica that has its prefix.
        least_attained_first: order what waits by uncached service attained in the task; off: by arrival.
        stagger: siblings wait for the one that prefills what they share.
        spread: of siblings that wait for the same prefix, one computes it on a further replica as soon as that pays.
        warm_up: for siblings that are declared, a further replica computes the prefix before they come, if that pays.
        hints: use what clients declare, as far as it has been true.
        return_within_s: idle state counts as needed with its session's chance to return within this time. Tuning half;
            120 to 250 s.
        keep_s: state that has been idle for longer does not count.
        small_tokens: so little prefill is never worth a wait. One step of vLLM's default token budget (8,192).
        prefill_tokens: a replica takes more prefill only up to so much in flight, or if none is. Two steps.
        warm_share: a prompt of which so much is there is resident.
        recompute_budget: of a replica's time, what may be spent on computing again what admissions beyond its room evict.
            Makes holding follow cost: where prefill is fast the budget covers all there is to recompute. Tuning half.
        budget_cap_s: unspent budget.
        overflow_queue_s: prefill that waits on a replica which takes turns whose hold is over, before a further one takes
            such turns. With `maxHold`, 5 min, and answers that are being decoded it stays below the 10 minutes after
            which the OpenAI and Anthropic SDKs give up. Longer is better for the rest: each period of so many seconds
            every program that does not fit costs one prefill of its whole context.
        overflow_share: of the replicas, how many may take overflow at the same time, rounded up; the others' residents are
            safe from it. Where half of the fleet is enough for the overflow (up to 3 times demand at 15,000 tokens/s)
            this changes nothing; where it is not, every replica would sooner or later be one of overflow, nothing
            would stay in any cache, and all would be served as slowly. The price is a longer queue for the overflow.
        shared_tokens: siblings that share less do not wait for each other. A quarter of a step.
        spread_gain: seconds that siblings must save for each that one more prefill of what they share costs, for one of them
            to go ahead elsewhere. Twice, as for a turn that leaves its prefix (`placing`); at 0.5 and 1 joins of 60,000
            shared tokens came 2 to 3 % later on a fleet that is busy, at 2 and 4 they did not.
        warm_gain: the same for a warm-up, which costs no sibling its first token. Below one, as only first turns are
            counted and sub-agents do 4 to 22; from 0.25 to 1 made no difference, at 2 too few replicas were warmed.
        lookahead: so many waiting turns are considered at a time, so that one event costs the same with any queue.
    """

    hold: bool = True
    stay: bool = True
    least_attained_first: bool = True
    stagger: bool = True
    spread: bool = True
    warm_up: bool = True
    hints: bool = True
    return_within_s: float = 200.0
    keep_s: float = 120.0
    small_tokens: int = 8192
    prefill_tokens: int = 16384
    warm_share: float = 0.5
    recompute_budget: float = 0.03
    budget_cap_s: float = 30.0
    overflow_queue_s: float = 200.0
    overflow_share: float = 0.5
    shared_tokens: int = 2048
    spread_gain: float = 2.0
    warm_gain: float = 0.5
    lookahead: int = 64

    @classmethod
    def for_step(cls, step_tokens: int) -> "Policy":
        """The defaults, for an engine that computes so many tokens in a step (`--max-num-batched-tokens`)."""
        return cls(
            small_tokens=step_tokens,
            prefill_tokens=2 * step_tokens,
            shared_tokens=max(1, step_tokens // 4),
        )

    def scaled(self, seconds: float, tokens: float = 1.0) -> "Policy":
        """For programs whose times and prompts are so many times those that the defaults are for: traces at a fraction of their size."""
        return replace(
            self,
            return_within_s=self.return_within_s * seconds,
            keep_s=self.keep_s * seconds,
            overflow_queue_s=self.overflow_queue_s * seconds,
            budget_cap_s=self.budget_cap_s * seconds,
            small_tokens=max(1, round(self.small_tokens * tokens)),
            prefill_tokens=max(1, round(self.prefill_tokens * tokens)),
            shared_tokens=max(1, round(self.shared_tokens * tokens)),
        )

    def __post_init__(self) -> None:
        for name in (
            "return_within_s",
            "keep_s",
            "small_tokens",
            "prefill_tokens",
            "shared_tokens",
            "spread_gain",
            "warm_gain",
            "lookahead",
        ):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, "must be positive")
        for name in ("warm_share", "recompute_budget", "overflow_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(name, "must be between 0 and 1")
