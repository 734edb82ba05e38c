"""What comes after a step, and the one table from errors to condition, event and requeue."""

from dataclasses import dataclass
from enum import Enum

from agentic_serving.api.conditions import Reason
from agentic_serving.errors import (
    Bug,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    InvalidInput,
    NotFound,
    Rejected,
    Unavailable,
    Waiting,
)

__all__ = ["DONE", "STOP", "Outcome", "Requeue", "Verdict", "verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step, or a whole reconcile, came to.

    Attributes:
        proceed: the next step may run.
        after_s: look again after that many seconds, although nothing is wrong.
        error: something is wrong; the key is retried as `verdict` says.
    """

    proceed: bool = True
    after_s: float | None = None
    error: Exception | None = None

    def then(self, other: "Outcome") -> "Outcome":
        """Both, one after the other: the first error, the earlier look."""
        times = [t for t in (self.after_s, other.after_s) if t is not None]
        return Outcome(
            proceed=other.proceed,
            after_s=min(times, default=None),
            error=self.error or other.error,
        )


DONE = Outcome()
STOP = Outcome(proceed=False)


class Requeue(Enum):
    """When a key with an error is looked at again."""

    NEVER = "never"  # an event brings it back: somebody edits the object
    AFTER = "after"  # after the time that the error names
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an error is answered."""

    reason: Reason  # of the condition
    warn: bool  # whether a Kubernetes Event tells people
    requeue: Requeue
    stalled: bool = False  # no retry helps: the object must change


#: The first class that matches decides. Forbidden and Rejected are retried: rights, quotas and webhooks change
#: without any event that we see.
_TABLE: tuple[tuple[type[Exception], Verdict], ...] = (
    (InvalidInput, Verdict(reason=Reason.INVALID_SPEC, warn=True, requeue=Requeue.NEVER, stalled=True)),
    (Waiting, Verdict(reason=Reason.PROGRESSING, warn=False, requeue=Requeue.AFTER)),
    (NotFound, Verdict(reason=Reason.PROGRESSING, warn=False, requeue=Requeue.BACKOFF)),
    (Conflict, Verdict(reason=Reason.PROGRESSING, warn=False, requeue=Requeue.BACKOFF)),
    (Forbidden, Verdict(reason=Reason.FORBIDDEN, warn=True, requeue=Requeue.BACKOFF)),
    (Rejected, Verdict(reason=Reason.REJECTED, warn=True, requeue=Requeue.BACKOFF)),
    (Expired, Verdict(reason=Reason.API_UNAVAILABLE, warn=False, requeue=Requeue.BACKOFF)),
    (Unavailable, Verdict(reason=Reason.API_UNAVAILABLE, warn=False, requeue=Requeue.BACKOFF)),
    (ClusterError, Verdict(reason=Reason.API_UNAVAILABLE, warn=False, requeue=Requeue.BACKOFF)),
    (Bug, Verdict(reason=Reason.INTERNAL_ERROR, warn=True, requeue=Requeue.BACKOFF)),
)
_UNKNOWN = Verdict(reason=Reason.INTERNAL_ERROR, warn=True, requeue=Requeue.BACKOFF)
_MISSING_API = Verdict(reason=Reason.MISSING_API, warn=True, requeue=Requeue.BACKOFF)


def verdict(error: Exception) -> Verdict:
    """How to answer this error."""
    # A 404 without the reason `NotFound` is about the kind, not about the object (cluster/port.py).
    if isinstance(error, NotFound) and not error.reason:
        return _MISSING_API
    return next((v for kind, v in _TABLE if isinstance(error, kind)), _UNKNOWN)
