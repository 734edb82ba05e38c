"""What a fault proxy does to which call: rules as values, and the plan that counts. Pure.

    Rule(match=matching(verb="patch", resource="deployments"), nth={2}, action=Answer(code=409))

fails the third such call. Indexes start at 0 and count each rule's own matches.
"""

import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from .calls import Call, Matcher

__all__ = [
    "Action", "Answer", "Close", "Delay", "Drop", "EventAction", "EventMatcher", "EventRule", "Hang", "Plan",
    "Repeat", "Reset", "Rule", "Run", "When", "event_of", "status_body",
]  # fmt: skip

# "before": the API server never sees the call. "after": it carried the call out and the answer is lost.
When = Literal["before", "after"]

# metav1.StatusReason for each code; clients branch on it.
_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer with this HTTP status instead of the server's."""

    code: int
    reason: str = ""  # default: the usual reason of the code
    retry_after_s: int | None = None
    when: When = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Never answer; ends when the client gives up."""

    when: When = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Break the connection (TCP reset)."""

    when: When = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Call back, then break the connection: the kill switch. The callback runs in the proxy's thread."""

    callback: Callable[[], None]
    when: When = "before"


Action = Answer | Hang | Reset | Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An action for some calls: for every match, or for those whose index among the matches is in `nth`."""

    match: Matcher
    action: Action
    nth: Set[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Lose the event; the watch goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Hold this event, and so all after it, back."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Deliver the event this many times."""

    times: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End the watch instead of delivering; with `expired`, after an ERROR event 410 as etcd's compaction gives."""

    expired: bool = False


EventAction = Drop | Delay | Repeat | Close
# The watch call and the event as the API server wrote it: {"type": .., "object": ..}.
EventMatcher = Callable[[Call, dict[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """An action for some watch events, counted like a `Rule`'s calls."""

    match: EventMatcher
    action: EventAction
    nth: Set[int] | None = None


class Plan:
    """Counts matches and says what to do; the first rule that applies decides, all rules count."""

    def __init__(self, rules: Sequence[Rule] = (), event_rules: Sequence[EventRule] = ()) -> None:
        self._rules = [(rule, _Counter(rule.nth)) for rule in rules]
        self._event_rules = [(rule, _Counter(rule.nth)) for rule in event_rules]

    def decide(self, call: Call) -> Action | None:
        """What to do with this call; None: pass it on."""
        chosen: Action | None = None
        for rule, counter in self._rules:
            if rule.match(call) and counter.hit() and chosen is None:
                chosen = rule.action
        return chosen

    def decide_event(self, call: Call, event: dict[str, Any]) -> EventAction | None:
        """What to do with this event of that watch; None: deliver it."""
        chosen: EventAction | None = None
        for rule, counter in self._event_rules:
            if rule.match(call, event) and counter.hit() and chosen is None:
                chosen = rule.action
        return chosen


class _Counter:
    """How often a rule matched, and whether this time counts."""

    def __init__(self, nth: Set[int] | None) -> None:
        self._nth = nth
        self._seen = 0

    def hit(self) -> bool:
        index, self._seen = self._seen, self._seen + 1
        return self._nth is None or index in self._nth


def event_of(
    resource: str,
    *,
    change: str | None = None,
    name: str | None = None,
) -> EventMatcher:
    """A matcher for events of watches on this plural.

    Args:
        change: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; None matches all but bookmarks.
    """

    def matches(call: Call, event: dict[str, Any]) -> bool:
        if call.resource != resource or (change or event["type"]) != event["type"]:
            return False
        if change is None and event["type"] == "BOOKMARK":
            return False
        return name is None or event["object"].get("metadata", {}).get("name") == name

    return matches


def status_body(code: int, reason: str = "") -> bytes:
    """The Status object that goes with an HTTP error of the API server."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "injected by the fault proxy",
        "reason": reason or _REASONS.get(code, "Unknown"),
        "code": code,
    }
    return json.dumps(status).encode()
