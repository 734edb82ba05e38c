"""How long a step takes: one linear formula, and the constants that go into it with where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentic_serving.errors import InvalidInput

__all__ = ["StepProfile", "parse_profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProfile:
    """Seconds of one forward pass.

    base + prefill_token * P + attention * A + sequence * D + context_token * C, where P is prompt tokens computed, A
    the sum over them of the tokens each attends to, D requests that decode, C the tokens those attend to in all.

    Raises:
        InvalidInput: a constant is negative, or a step could take no time.
    """

    name: str
    source: str  # how the constants were found, so that a reader can dispute them
    base_s: float  # reading the weights, launching
    prefill_token_s: float
    attention_s: float = 0.0  # per pair of prompt token and token attended to
    sequence_s: float = 0.0
    context_token_s: float = 0.0  # reading one token's K and V

    def __post_init__(self) -> None:
        for name in ("prefill_token_s", "attention_s", "sequence_s", "context_token_s"):
            if getattr(self, name) < 0:
                raise InvalidInput(name, "must not be negative")
        if self.base_s <= 0:
            raise InvalidInput("base_s", "must be positive: time must pass in every step")

    def step_s(self, prefill_tokens: int, attention_pairs: int, sequences: int, context_tokens: int) -> float:
        return (
            self.base_s
            + self.prefill_token_s * prefill_tokens
            + self.attention_s * attention_pairs
            + self.sequence_s * sequences
            + self.context_token_s * context_tokens
        )

    def prompt_s(self, tokens: int, *, cached: int = 0, max_batched_tokens: int = 8192) -> float:
        """Time to the first token of a prompt that is alone on the replica."""
        fresh = max(1, tokens - cached)
        start = tokens - fresh
        passes = -(-fresh // max_batched_tokens)
        pairs = fresh * start + fresh * (fresh + 1) // 2
        return (passes - 1) * self.base_s + self.step_s(fresh, pairs, 0, 0)

    def scaled(self, factor: float) -> "StepProfile":
        """A replica on which everything takes `factor` times as long."""
        return replace(
            self,
            name=f"{self.name} x{factor:g}",
            base_s=self.base_s * factor,
            prefill_token_s=self.prefill_token_s * factor,
            attention_s=self.attention_s * factor,
            sequence_s=self.sequence_s * factor,
            context_token_s=self.context_token_s * factor,
        )


_NUMBERS = ("base_s", "prefill_token_s", "attention_s", "sequence_s", "context_token_s")


def parse_profile(data: Mapping[str, object], *, field: str = "profile") -> StepProfile:
    """A profile from a file's content: `name`, `source` and the constants under their names here.

    Raises:
        InvalidInput: a key is unknown or missing, or a value is not what it must be.
    """
    unknown = sorted(set(data) - {"name", "source", *_NUMBERS})
    if unknown:
        raise InvalidInput(field, f"unknown keys {', '.join(unknown)}")
    numbers: dict[str, float] = {}
    for name in _NUMBERS:
        value = data.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"{field}.{name}", "must be a number of seconds")
        numbers[name] = float(value)
    return StepProfile(
        name=str(data.get("name", "unnamed")), source=str(data.get("source", "not given")), **numbers
    )
