"""The hint endpoint: where frameworks say what they know of a session's future (docs/hints.md).

Applications reach it through their stack's Envoy, at `/agentic-serving/v1/hints`. Envoy finds the program as it does for
model calls and puts its name into the path, so that nobody speaks for a program whose requests it could not send.

Nothing that is said here can do more than change the order and place of the program's own turns, as far as its words were
true before. A hint that is lost, refused or false costs what it would have gained.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from agentic_serving.program.request import identifier
from agentic_serving.router.words import Declaration, Host, Word

__all__ = ["ENVOY_PATH", "MAX_BODY_BYTES", "PATH", "Refused", "parse", "routes"]

#: Where applications find it, and what Envoy makes of that, followed by `/<program>`.
ENVOY_PATH = "/agentic-serving/v1/hints"
PATH = "/v1/hints"

#: Two ids of 128 characters and five numbers take less than 600 bytes, as JSON with escapes less than 3,000.
MAX_BODY_BYTES = 16 * 1024
#: Children of one fork. Reinforcement learning starts groups of up to 512 rollouts (docs/replay.md); the rest is room.
MAX_FORK = 4096
#: A day for a tool, a week for a task: what is longer is no guess but a mistake in units.
MAX_TOOL_S = 86_400
MAX_REMAINING_S = 604_800

_MAX_PROBLEMS = 5
_WHAT = ("fork", "join", "tool_seconds", "remaining_seconds", "finished")

Handler = Callable[[web.Request], Awaitable[web.Response]]
Clock = Callable[[], float]


class Refused(Exception):
    """A hint that is not taken.

    Attributes:
        status: 400, 403 or 413.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _name(value: object) -> object:
    if identifier(value) is None:
        raise ValueError("must be 1 to 128 visible ASCII characters")
    return value


Name = Annotated[str, BeforeValidator(_name)]


class _Hint(BaseModel):
    """The body as it comes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    session: Name
    program: Name | None = None
    fork: Annotated[int, Field(ge=1, le=MAX_FORK)] | None = None
    join: bool = False
    tool_seconds: Annotated[float, Field(ge=0, le=MAX_TOOL_S)] | None = None
    remaining_seconds: Annotated[float, Field(ge=0, le=MAX_REMAINING_S)] | None = None
    finished: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> "_Hint":
        said = (self.fork, self.tool_seconds, self.remaining_seconds)
        if not (self.join or self.finished or any(one is not None for one in said)):
            raise ValueError(f"says nothing: give at least one of {', '.join(_WHAT)}")
        return self


def parse(body: bytes, program: str | None) -> Declaration:
    """A declaration from outside.

    Args:
        program: the one that Envoy took the request for; None: the body must say.

    Raises:
        Refused: with the status and what to change.
    """
    if len(body) > MAX_BODY_BYTES:
        raise Refused(413, f"a hint has at most {MAX_BODY_BYTES} bytes")
    try:
        hint = _Hint.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"not JSON: {error}") from error
    except ValidationError as error:
        raise Refused(400, _problems(error)) from error
    return Declaration(
        program=_agreed(hint.program, program),
        session=hint.session,
        fork=hint.fork,
        join=hint.join,
        tool_s=hint.tool_seconds,
        remaining_s=hint.remaining_seconds,
        finished=hint.finished,
    )


def _agreed(said: str | None, matched: str | None) -> str:
    if matched is None:
        if said is None:
            raise Refused(400, "program: missing, as this request did not come through the stack's Envoy")
        return said
    if said is not None and said != matched:
        raise Refused(
            403,
            f"program: this request belongs to {matched}, not {said}; send the headers that your model calls send",
        )
    return matched


def _problems(error: ValidationError) -> str:
    """All that is wrong, without the values: they are not ours to repeat."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [_problem(one["loc"], one["msg"]) for one in found[:_MAX_PROBLEMS]]
    return "; ".join(told)


def _problem(loc: Sequence[int | str], message: str) -> str:
    field = "/".join(str(part) for part in loc)
    known = field if field in _Hint.model_fields else "unknown field"  # a field's name comes from outside too
    return (
        f"{known}: {message.removeprefix('Value error, ')}"
        if field
        else message.removeprefix("Value error, ")
    )


def routes(
    host: Host,
    clock: Clock,
    *,
    active: Callable[[], bool] = lambda: True,
    deliver: Callable[[Sequence[Word]], None] | None = None,
) -> list[web.RouteDef]:
    """The endpoint for the HTTP application.

    Args:
        clock: the host's.
        active: whether this scheduler decides. One that stands by takes no hints: they would be lost.
        deliver: what sends words for calls that the host has to say after a declaration.
    """
    door = _Door(host, clock, active, deliver)
    return [web.get(PATH, door.here), web.post(PATH, door.take), web.post(PATH + "/{program}", door.take)]


class _Door:
    """Takes hints while its scheduler is the active one."""

    def __init__(
        self,
        host: Host,
        clock: Clock,
        active: Callable[[], bool],
        deliver: Callable[[Sequence[Word]], None] | None,
    ) -> None:
        self._host = host
        self._clock = clock
        self._active = active
        self._deliver = deliver

    async def here(self, _: web.Request) -> web.Response:
        """Whether hints are taken here: Envoy's health check, where a stack has more than one router."""
        return _answer(200, {"active": True}) if self._active() else _standby()

    async def take(self, request: web.Request) -> web.Response:
        if not self._active():
            return _standby()
        program = request.match_info.get("program")
        if program is not None and identifier(program) is None:
            return _refusal(400, "program: must be 1 to 128 visible ASCII characters")
        try:
            declaration = parse(await _body(request), program)
        except Refused as refused:
            return _refusal(refused.status, str(refused))
        now_s = self._clock()
        known = self._host.declare(declaration, now_s)
        if self._deliver is not None:
            self._deliver(self._host.tick(now_s))  # what was said may let others go
        if not known:
            return _refusal(
                404, "session: not known in this program; declare it again after its first model call"
            )
        return _answer(202, {"known": True})


async def _body(request: web.Request) -> bytes:
    """The body, read no further than is needed to refuse it."""
    found = bytearray()
    async for chunk in request.content.iter_any():
        found += chunk
        if len(found) > MAX_BODY_BYTES:
            break
    return bytes(found)


def _standby() -> web.Response:
    return _refusal(503, "this scheduler stands by: another one of the stack takes hints")


def _refusal(status: int, message: str) -> web.Response:
    return _answer(status, {"error": {"message": message}})


def _answer(status: int, content: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content) + b"\n", content_type="application/json")
