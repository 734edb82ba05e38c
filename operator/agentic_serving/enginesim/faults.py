"""Errors as vLLM answers them: the OpenAI shape, and Anthropic's for the Messages API.

Source: vLLM 0.33.0, vllm/entrypoints/serve/exception_handling and vllm/entrypoints/anthropic/protocol.py.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

__all__ = ["Fault", "anthropic_body", "invalid", "not_found", "openai_body", "refused"]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_MOST_REPORTED, _MOST_INPUT_CHARS = 10, 200


class Fault(Exception):
    """An answer that is not 200.

    Args:
        kind: `type` of the error object.
        shaped: False for what FastAPI answers before the handler: the OpenAI shape on every path.
    """

    def __init__(
        self, message: str, *, kind: str = "BadRequestError", status: int = 400, param: str | None = None,
        shaped: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.status = status
        self.param = param
        self.shaped = shaped


def openai_body(fault: Fault) -> dict[str, Any]:
    return {
        "error": {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.status}
    }


def anthropic_body(fault: Fault, *, since_033: bool = True) -> dict[str, Any]:
    """Anthropic's shape; before 0.33 with vLLM's own names of kinds."""
    if not since_033:
        return {"type": "error", "error": {"type": fault.kind, "message": fault.message}}
    default = "api_error" if fault.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(fault.status, default)
    return {"type": "error", "error": {"type": kind, "message": fault.message}}


def refused(message: str, parameter: str | None = None, value: object = None) -> Fault:
    """vLLM's own validation errors name parameter and value behind the message."""
    extras = [f"parameter={parameter}"] if parameter is not None else []
    extras += [f"value={value}"] if value is not None else []
    text = f"{message} ({', '.join(extras)})" if extras else message
    return Fault(text, param=parameter)


def not_found(model: object, served: Sequence[str]) -> Fault:
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(served)}."
    return Fault(message, kind="NotFoundError", status=404, param="model")


def invalid(errors: ValidationError | str) -> Fault:
    """What FastAPI and vLLM make of a body that is not as declared."""
    if isinstance(errors, str):
        return Fault(f"1 validation error:\n  {errors}", kind=HTTPStatus.BAD_REQUEST.phrase, shaped=False)
    found = errors.errors(include_url=False)
    lines = [f"  {_line({**error})}" for error in found[:_MOST_REPORTED]]
    if len(found) > _MOST_REPORTED:
        lines.append(f"  ...and {len(found) - _MOST_REPORTED} more errors")
    label = "error" if len(found) == 1 else "errors"
    message = f"{len(found)} validation {label}:\n" + "\n".join(lines)
    return Fault(message, kind=HTTPStatus.BAD_REQUEST.phrase, param=_path(found[0]["loc"]), shaped=False)


def _path(location: Sequence[int | str]) -> str:
    return ".".join(("body", *map(str, location)))


def _line(error: dict[str, Any]) -> str:
    shown: dict[str, Any] = {key: error[key] for key in ("type", "loc", "msg", "input") if key in error}
    shown["loc"] = _path(error["loc"])
    shown["input"] = _summary(error.get("input"))
    if "ctx" in error:
        shown["ctx"] = error["ctx"]
    return str(shown)


def _summary(value: object) -> object:
    if isinstance(value, list | tuple | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _MOST_INPUT_CHARS else text[:_MOST_INPUT_CHARS] + "...[truncated]"
