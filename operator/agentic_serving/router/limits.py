"""What bounds the desk, and where each number comes from."""

from dataclasses import dataclass

from agentic_serving.errors import InvalidInput

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, bytes, counts.

    Attributes:
        max_held: calls that wait; further ones are answered 429. The size that one scheduler is measured with.
        max_held_bytes: of their bodies, which Envoy keeps while they wait: 2,600 of Claude Code's (400 KB).
        usage_wait_s: after a call's stream has ended, its access log is waited for; Envoy sends it within 0.2 s.
        return_s: a client that left a held call and comes again within this time finds its place kept. The OpenAI and
            Anthropic SDKs wait at most 8 s before they try again.
        settle_s: a task that nothing followed for so long is told to be done (`words.TaskDone`).
        sweep_s: the least time between two looks at what is idle.
        client_share: of the time after which a client says that it gives up, so much may be spent waiting here.
        lost_s: beyond the request's own time and hold, until a call whose end nobody told is given up.
        noise_tokens: of cached tokens fewer than predicted, so many are estimation: a few blocks of 16 tokens, and what the
            chat template writes around messages.
    """

    max_held: int = 10_000
    max_held_bytes: int = 1 << 30
    usage_wait_s: float = 0.5
    return_s: float = 10.0
    settle_s: float = 60.0
    sweep_s: float = 1.0
    client_share: float = 0.5
    lost_s: float = 60.0
    noise_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("max_held", "max_held_bytes", "sweep_s", "client_share"):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, "must be above 0")
