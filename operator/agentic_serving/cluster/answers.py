"""What an answer of the API server means: HTTP status and `Status` object to our errors. Pure.

Source: k8s.io/apimachinery `pkg/apis/meta/v1/types.go` (StatusReason) and `pkg/api/errors`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from agentic_serving.errors import (
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Rejected,
    Unavailable,
)

__all__ = ["error_from"]

_BY_CODE: dict[int, type[ClusterError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Expired,
    429: Unavailable,
}
#: Longest text of a non-JSON answer (a proxy's error page) that goes into a message.
_MAX_TEXT = 300
#: Server-side apply answers 500 to a field that is unknown or of the wrong type (seen on 1.36); no retry helps.
_UNTYPED = "failed to create typed patch object"


def error_from(code: int, headers: Mapping[str, str], body: bytes, *, asked: str) -> ClusterError:
    """The error that a refused request becomes.

    Args:
        code: HTTP status; 400 or above, or an unexpected redirect.
        asked: what was requested (`apply deployments.apps ns/chat`), for the message.
    """
    status = _status_object(body)
    if code == 422 and _is_about_uid(status):
        # A precondition on the uid fails as a change of an immutable field; to us it is a lost race.
        code, status = 409, {**status, "reason": "Conflict"}
    if code == 500 and str(status.get("message", "")).startswith(_UNTYPED):
        code = 400
    text = str(status.get("message") or body[:_MAX_TEXT].decode(errors="replace").strip() or f"HTTP {code}")
    return _class_of(code)(
        f"{asked}: {text}",
        code=code,
        reason=str(status.get("reason") or ""),
        retry_after_s=_retry_after_s(headers, status),
    )


def _is_about_uid(status: Mapping[str, Any]) -> bool:
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _class_of(code: int) -> type[ClusterError]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    # A redirect or an early answer can only come from a proxy in between: the API server sends neither.
    return Rejected if 400 <= code < 500 else Unavailable


def _status_object(body: bytes) -> dict[str, Any]:
    """The body where it is a `Status`; empty where it is another's page or `404 page not found`."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


def _retry_after_s(headers: Mapping[str, str], status: Mapping[str, Any]) -> float | None:
    """Seconds from the header (only its numeric form; API servers send no other) or the Status' details."""
    asked = headers.get("Retry-After") or (status.get("details") or {}).get("retryAfterSeconds")
    try:
        return float(asked) if asked else None
    except (TypeError, ValueError):
        return None
