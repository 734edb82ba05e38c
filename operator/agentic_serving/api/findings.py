"""What is wrong with an object, all at once and with paths: shared by the CLI, the renderer and the controller."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "errors", "summarise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or that the user should know.

    Attributes:
        path: the field, as users write it: `spec.engine.args[2]`; `metadata.name`.
        reason: a stable CamelCase word, usable as a condition's reason: `ArgumentOwned`.
        message: what is the case and what to change, one or two sentences without the path.
        severity: an `Error` keeps the object from being accepted; a `Warning` is only reported.
    """

    path: str
    reason: str
    message: str
    severity: Literal["Error", "Warning"] = "Error"

    def __post_init__(self) -> None:
        # A member of conditions.Reason becomes a plain string, which YAML and JSON can hold.
        object.__setattr__(self, "reason", str(self.reason))

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that keep the object from being accepted."""
    return tuple(f for f in findings if f.severity == "Error")


def summarise(findings: Iterable[Finding], *, limit_chars: int = 1024) -> str:
    """All findings as one message for a condition; what does not fit is counted."""
    texts = [str(f) for f in findings]
    kept: list[str] = []
    for i, text in enumerate(texts):
        rest = f" (and {len(texts) - i} more)"
        if sum(map(len, kept)) + 2 * len(kept) + len(text) + len(rest) > limit_chars and kept:
            return "; ".join(kept) + rest
        kept.append(text[: limit_chars - len(rest)])
    return "; ".join(kept)
