"""Why a flag or an object was generated: what `agentic-serving explain` prints."""

from dataclasses import dataclass

__all__ = ["Rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One decision of the renderer.

    Attributes:
        id: stable name, `<room>/<what>`, such as `engine/shutdown-timeout`.
        reason: why it is so, one sentence for the person who reads the generated object.
        source: where the fact comes from: a documentation page, a released source file, a field of the
            user's own object (`spec.engine.args`).
    """

    id: str
    reason: str
    source: str
