"""What a call came to, from what Envoy says of its end: outcome, tokens, and what of them had been computed before. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentic_serving.program.graph import Divergence
from agentic_serving.router.calls import Open
from agentic_serving.router.words import Cause, Usage

__all__ = ["Settled", "settled"]

#: Of what a session's prompt lost, what comes again behind the change is computed again.
_CAUSES: Mapping[Divergence, Cause] = {
    "compaction": "Compaction",
    "edit": "Edit",
    "dropped reasoning": "DroppedReasoning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """`served`: the prompt was computed, whatever became of the answer."""

    outcome: Literal["Answered", "Failed", "ClientLeft"]
    served: bool
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    estimated: bool
    recomputed: Mapping[Cause, int]


def settled(call: Open, usage: Usage | None, *, pod_lives: bool, noise_tokens: int) -> Settled:
    """
    Args:
        usage: None: it did not come in time.
        pod_lives: where the call went is still there, as far as is known.
    """
    status = usage.status if usage is not None and usage.status else call.status
    aborted = usage is not None and usage.aborted
    prompt = usage.prompt_tokens if usage is not None else None
    cached = usage.cached_tokens if usage is not None and prompt is not None else None
    if cached is not None and prompt is not None:
        cached = min(cached, prompt)
    served = prompt is not None or (0 < status < 400 and not (aborted and not pod_lives))
    tokens = call.reading.prompt_tokens if prompt is None else prompt
    return Settled(
        outcome=_outcome(status, aborted=aborted, pod_lives=pod_lives),
        served=served,
        prompt_tokens=tokens,
        cached_tokens=cached,
        output_tokens=(usage.output_tokens or 0) if usage is not None else 0,
        estimated=prompt is None,
        recomputed={} if cached is None else _recomputed(call, tokens, cached, noise_tokens),
    )


def _outcome(status: int, *, aborted: bool, pod_lives: bool) -> Literal["Answered", "Failed", "ClientLeft"]:
    """No status: nobody was there to be told one. A broken answer is the client's doing if its pod still lives."""
    if status == 0:
        return "ClientLeft"
    if status >= 400:
        return "Failed"
    if aborted:
        return "ClientLeft" if pod_lives else "Failed"
    return "Answered"


def _recomputed(call: Open, prompt: int, cached: int, noise_tokens: int) -> dict[Cause, int]:
    reading, found = call.reading, dict[Cause, int]()
    missing = min(reading.reused, prompt) - cached
    if missing > noise_tokens:
        moved = call.shared_pod and call.replica and call.shared_pod != call.replica
        found["OtherReplica" if moved else "Evicted"] = missing
    cause = _CAUSES.get(reading.divergence) if reading.divergence is not None else None
    again = min(reading.lost, reading.new, prompt - cached - max(missing, 0))
    if cause is not None and again > noise_tokens:
        found[cause] = again
    return found
