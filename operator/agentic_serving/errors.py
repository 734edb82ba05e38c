"""Errors say who must act.

    AgenticServingError
    ├── InvalidInput    the user: something they wrote is wrong; it names the field
    ├── Waiting         nobody yet: come back in `after_s` seconds
    ├── ClusterError    the Kubernetes API answered with an error, or did not answer
    │   ├── NotFound    404: the object is not there
    │   ├── Conflict    409: somebody else wrote first; read again and retry
    │   ├── Forbidden   403: the operator lacks a right; a cluster administrator must grant it
    │   ├── Rejected    400, 413, 422: the API server refused the object; retrying the same is useless
    │   ├── Expired     410: the resource version is too old; list again
    │   └── Unavailable 429, 5xx, timeouts, broken connections: retry with back-off
    └── Bug             us: an invariant did not hold

`controller/outcome.py` holds the one table from these to condition, event and requeue.
"""

__all__ = [
    "AgenticServingError",
    "Bug",
    "ClusterError",
    "Conflict",
    "Expired",
    "Forbidden",
    "InvalidInput",
    "NotFound",
    "Rejected",
    "Unavailable",
    "Waiting",
]


class AgenticServingError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidInput(AgenticServingError):
    """Something the user wrote is wrong.

    Args:
        field: path of the field (`spec.model.name`), file name or argument name.
        message: what is wrong and what to write instead, without the field's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Waiting(AgenticServingError):
    """Nothing is wrong, something is not there yet; look again after `after_s` seconds."""

    def __init__(self, message: str, *, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class ClusterError(AgenticServingError):
    """The Kubernetes API answered with an error, or did not answer.

    Args:
        message: the server's own message where there is one.
        code: HTTP status; 0 where no answer came.
        reason: the `reason` of the Status object (`AlreadyExists`), or an empty string.
        retry_after_s: what the server asked for with `Retry-After`, if it did.
    """

    def __init__(
        self, message: str, *, code: int = 0, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s


class NotFound(ClusterError):
    """404: the object, or its kind, is not there."""


class Conflict(ClusterError):
    """409: somebody else wrote first."""


class Forbidden(ClusterError):
    """401 or 403: the operator's service account lacks a right."""


class Rejected(ClusterError):
    """400, 413, 422: the API server refused this object."""


class Expired(ClusterError):
    """410: the resource version is too old; list again."""


class Unavailable(ClusterError):
    """429, 5xx, a timeout or a broken connection."""


class Bug(AgenticServingError):
    """An invariant of ours did not hold."""
