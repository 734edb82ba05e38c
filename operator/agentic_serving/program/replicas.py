"""What the scheduler knows of each replica beside its cache: prefill in flight, how fast it is, and its recompute budget."""

from agentic_serving.program.policy import Policy
from agentic_serving.program.witness import Witness

__all__ = ["Decoding", "Replica"]

#: Until prefills were timed: between a small model on one device and a large one on a node.
_FIRST_TOKENS_PER_S = 15_000.0
#: About the last 20 prefills count.
_WEIGHT = 0.05


#: What one more turn in the batch adds to a decoding step, until it was measured: reading the K and V of a thousand
#: tokens of an 8B model from HBM3 (131 MB at 3.35 TB/s), and as much for sampling.
_FIRST_SLOPE_S = 8e-5
#: More than that is not the batch's doing.
_MOST_SLOPE_S = 1e-3
_FIRST_ANSWER_TOKENS = 400.0
#: About the last 100 answers count.
_ANSWER_WEIGHT = 0.01


class Decoding:
    """How much slower answers come beside others: a line through seconds per token over turns beside."""

    __slots__ = ("_answer", "_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._answer = _FIRST_ANSWER_TOKENS
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    @property
    def drag_s(self) -> float:
        """Seconds that each turn beside costs an answer."""
        spread = self._xx - self._x * self._x
        slope = (self._xy - self._x * self._y) / spread if self._n > 1 and spread > 1.0 else _FIRST_SLOPE_S
        return self._answer * min(max(slope, 0.0), _MOST_SLOPE_S)

    def learn(self, beside: int, tokens: int, took_s: float) -> None:
        """An answer has ended; `beside` turns were there when it began."""
        self._answer += _ANSWER_WEIGHT * (tokens - self._answer)
        if tokens < 2 or took_s <= 0:
            return
        self._n = min(self._n + 1, 1 / _ANSWER_WEIGHT)
        each_s = took_s / (tokens - 1)
        self._x += (beside - self._x) / self._n
        self._y += (each_s - self._y) / self._n
        self._xx += (beside * beside - self._xx) / self._n
        self._xy += (beside * each_s - self._xy) / self._n


class Replica:
    """Counts follow the scheduler's own turns; what others send there is seen in the cache's effective capacity only."""

    __slots__ = (
        "_budget_s",
        "_budgeted_s",
        "_prefilled_s",
        "decoding",
        "max_seqs",
        "name",
        "overflow",
        "pending",
        "prefills",
        "tokens_per_s",
        "witness",
    )

    def __init__(self, name: str, max_seqs: int) -> None:
        self.name = name
        self.max_seqs = max_seqs
        self.pending = 0  # uncached tokens of turns that have no first token yet
        self.prefills = 0  # those turns
        self.decoding = 0  # turns with a first token
        self.witness = Witness()
        self.overflow = 0  # turns there that were admitted only because their hold was over
        self.tokens_per_s = _FIRST_TOKENS_PER_S
        self._prefilled_s = 0.0  # when it last finished a prompt
        self._budget_s = 0.0
        self._budgeted_s: float | None = None

    @property
    def turns(self) -> int:
        return self.prefills + self.decoding

    def takes(self, uncached_tokens: int, policy: Policy) -> bool:
        """More prefill now would not just wait in the engine's queue."""
        return (
            uncached_tokens <= policy.small_tokens
            or self.pending <= 0
            or self.pending + uncached_tokens <= policy.prefill_tokens
        ) and self.turns < self.max_seqs

    def answers_s(self, uncached_tokens: int, decoding: Decoding) -> float:
        """Until the first token of a turn that comes now, and what the others there cost its answer."""
        return self.seconds(self.pending + uncached_tokens) + decoding.drag_s * self.turns

    def seconds(self, tokens: float) -> float:
        """What computing so many prompt tokens takes."""
        return tokens / self.tokens_per_s

    def begin(self, uncached_tokens: int) -> None:
        self.pending += uncached_tokens
        self.prefills += 1

    def first_token(self, uncached_tokens: int, placed_s: float, now_s: float, *, timed: bool = True) -> None:
        """A prompt is computed: how fast that was, if nothing else was computed in between.

        Args:
            timed: it tells how fast prefill is: when it came is known, and it was long.
        """
        self.pending -= uncached_tokens
        self.prefills -= 1
        self.decoding += 1
        took_s = now_s - max(placed_s, self._prefilled_s)
        if timed and took_s > 0:
            self.tokens_per_s += _WEIGHT * (uncached_tokens / took_s - self.tokens_per_s)
        self._prefilled_s = now_s

    def leave(self, uncached_tokens: int | None) -> None:
        """A turn is over.

        Args:
            uncached_tokens: of its prompt, if its first token was never seen (an answer in one piece, a failure): how
                long the prompt took is not known then.
        """
        if uncached_tokens is None:
            self.decoding -= 1
        else:
            self.pending -= uncached_tokens
            self.prefills -= 1

    def cost_s(self, evicted_tokens: float) -> float:
        """Time that computing them again takes, of that turn and of those that decode beside it."""
        return self.seconds(evicted_tokens) * (1 + self.decoding)

    def spare(self, policy: Policy, now_s: float) -> float:
        """Tokens beyond its room that its recompute budget pays for."""
        since_s = now_s if self._budgeted_s is None else self._budgeted_s
        earned = policy.recompute_budget * (now_s - since_s)
        self._budget_s = min(policy.budget_cap_s, self._budget_s + earned)
        self._budgeted_s = now_s
        return max(0.0, self._budget_s) * self.tokens_per_s / (1 + self.decoding)

    def spend(self, evicted_tokens: float) -> None:
        self._budget_s -= self.cost_s(evicted_tokens)
