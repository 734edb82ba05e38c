"""A time profile from measured steps: least squares with no negative constant."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile

__all__ = ["Sample", "fit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured step, in the terms of `StepProfile.step_s`."""

    seconds: float
    prefill_tokens: int = 0
    attention_pairs: int = 0
    sequences: int = 0
    context_tokens: int = 0

    @property
    def row(self) -> tuple[float, ...]:
        return (
            1.0,
            float(self.prefill_tokens),
            float(self.attention_pairs),
            float(self.sequences),
            float(self.context_tokens),
        )


def fit(name: str, source: str, samples: Sequence[Sample]) -> StepProfile:
    """The profile whose steps come closest to the samples, relative errors counting equally.

    Constants that would be negative, or that the samples say nothing about, are 0.

    Raises:
        InvalidInput: the samples do not vary enough, or a time is not positive.
    """
    if any(sample.seconds <= 0 for sample in samples):
        raise InvalidInput("samples", "every time must be positive")
    # Each row is divided by its time, so that the target is 1; each column by its largest value, so that the
    # equations are well conditioned.
    rows = [[value / sample.seconds for value in sample.row] for sample in samples]
    scales = [max((row[i] for row in rows), default=0.0) for i in range(5)]
    used = [i for i in range(5) if scales[i] > 0]
    while used:
        solved = _least_squares([[row[i] / scales[i] for i in used] for row in rows])
        if solved is None:
            raise InvalidInput("samples", "do not vary enough to tell the constants apart")
        worst = min(range(len(used)), key=lambda at: solved[at])
        if solved[worst] >= 0:
            constants = {i: solved[at] / scales[i] for at, i in enumerate(used)}
            values = [constants.get(i, 0.0) for i in range(5)]
            return StepProfile(
                name=name,
                source=source,
                base_s=values[0],
                prefill_token_s=values[1],
                attention_s=values[2],
                sequence_s=values[3],
                context_token_s=values[4],
            )
        del used[worst]
    raise InvalidInput("samples", "there are none")


def _least_squares(rows: list[list[float]]) -> list[float] | None:
    """x that minimises |rows · x - 1|; None: there are several."""
    size = len(rows[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)] + [sum(row[i] for row in rows)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda at: abs(matrix[at][column]))
        if abs(matrix[pivot][column]) < 1e-12:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        head = matrix[column]
        for other in range(size):
            factor = matrix[other][column] / head[column]
            if other != column and factor:
                matrix[other] = [a - factor * b for a, b in zip(matrix[other], head, strict=True)]
    return [matrix[i][size] / matrix[i][i] for i in range(size)]
