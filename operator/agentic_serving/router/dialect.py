"""What the picker is told in its own words, and people in theirs. Pure."""

from collections.abc import Mapping, Sequence

from agentic_serving.program.events import Reason, Warm
from agentic_serving.router.words import Came

__all__ = ["also", "because", "picker_headers"]

_BECAUSE: Mapping[str, str] = {
    Reason.SIDE: "It is no turn of the conversation, and never held.",
    Reason.ONLY: "No replica is known, so the picker chooses.",
    Reason.WARM: "Its prefix is on {replica}; {uncached} tokens are new there.",
    Reason.ROOM: "{replica} has room for what it needs: {uncached} tokens to compute.",
    Reason.BUDGET: "{replica} has no room, and what it evicts there is cheap to compute again.",
    Reason.OVERFLOW: "Its program's maxHold is over; {replica} bears what does not fit.",
    Reason.NO_ROOM: "Every replica's cache is full of what its sessions will soon need.",
    Reason.PREFILL: "Its prefix is on a replica that computes other prompts first.",
    Reason.SIBLING: "Another session computes now what this one shares with it.",
    Reason.SPREAD: "Many sessions wait for what it shares with them: {replica} computes that too ({uncached} tokens).",
    "QueueFull": "So many calls wait already.",
    "ReplacedByRetry": "Its client sent it again, and the new call has its place.",
    "NotParsed": "Its body was not read: cut off, compressed, or not JSON.",
    "Observing": "The scheduler only watches, so it went at once.",
}


def because(reason: str, *, replica: str = "", uncached_tokens: int = 0) -> str:
    """One sentence."""
    told = _BECAUSE.get(reason, "")
    return told.format(replica=replica or "a replica", uncached=f"{uncached_tokens:,}") if told else ""


def also(warm: Sequence[Warm]) -> str:
    """What is said of warm-ups behind the sentence of the turn whose prompt they compute."""
    if not warm:
        return ""
    where = ", ".join(one.replica for one in warm)
    return f" {where} computes the same prompt for {warm[0].siblings} sessions that are to come."


def picker_headers(names: Mapping[str, str], came: Came) -> dict[str, str]:
    """What of the picker's headers is known better here than at the edge: whose turn it is.

    Envoy's routes set program, objective and a fairness id of whatever names the session in the request itself. Here it is
    known which run that session is of; calls of one run share one place in the picker's queue.

    Args:
        names: role of a header → its name, as the release has it.
    """
    name = names.get("fairness")
    return {name: came.run} if name and came.confidence > 0 and came.run != came.session else {}
