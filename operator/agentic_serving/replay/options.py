"""Everything a replay can be told, checked before anything is sent."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.bodies import Api
from agentic_serving.replay.clients import Client

__all__ = ["Options"]

_POSITIVE, _NOT_NEGATIVE, _ONE = "must be more than 0", "must not be negative", "must be at least 1"
#: (field, smallest value or None for more than 0, what is said else).
_BOUNDS: tuple[tuple[str, float | None, str], ...] = (
    ("token_scale", None, _POSITIVE),
    ("timeout_s", None, _POSITIVE),
    ("stop_s", None, _POSITIVE),
    ("duration_s", None, _POSITIVE),
    ("tokens_per_word", None, _POSITIVE),
    ("gap_scale", 0, _NOT_NEGATIVE),
    ("max_gap_s", 0, _NOT_NEGATIVE),
    ("time_scale", 0, _NOT_NEGATIVE),
    ("retries", 0, _NOT_NEGATIVE),
    ("max_output_tokens", 1, _ONE),
    ("concurrency", 1, _ONE),
    ("sessions", 1, _ONE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to replay.

    Attributes:
        endpoint: base URL; `/v1` is added where it is not its end.
        model: the served model's name.
        api_key: sent as bearer token and as x-api-key.
        client: whose headers and API; `mixed` takes the three in turn, program by program.
        api: instead of the client's own API.
        token_scale: every block is shortened to `ceil(size * token_scale)` tokens, answers likewise.
        max_output_tokens: bound of an answer, after scaling.
        gap_scale: recorded gaps are multiplied with it.
        max_gap_s: and are at most this long.
        time_scale: arrivals of open-loop traces are multiplied with it: 0.5 is twice the load.
        sessions: only so many programs, drawn by `seed` when it is not 0; all without it.
        concurrency: programs at the same time (closed loop).
        duration_s: start programs over until then; running turns are finished. None: each program once.
        seed: of words, client order and back-off.
        retries: how often a failed request is sent again.
        timeout_s: of one attempt. Claude Code's is 600.
        tool_choice: `none`, or `auto` as the clients send it: the engine then needs a tool parser.
        ignore_eos: answers have exactly the recorded length; a vLLM extension.
        tokens_per_word: of the server's tokenizer; None: measured with two small requests.
        headers: sent with every request, over the client's own: how a program of a stack is told apart.
        stop_s: after `duration_s`, running turns have so long to finish.
    """

    endpoint: str
    model: str
    api_key: str = "unused"
    client: Client | Literal["mixed"] = "claude-code"
    api: Api | None = None
    token_scale: float = 1.0
    max_output_tokens: int = 4096
    gap_scale: float = 1.0
    max_gap_s: float = 60.0
    time_scale: float = 1.0
    sessions: int | None = None
    concurrency: int = 8
    duration_s: float | None = None
    seed: int = 0
    retries: int = 4
    timeout_s: float = 600.0
    tool_choice: Literal["none", "auto"] = "none"
    ignore_eos: bool = False
    tokens_per_word: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    stop_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            InvalidInput: names the option.
        """
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                "--endpoint", f"expected a URL as http://chat.default.svc, found {self.endpoint!r}"
            )
        if not self.model:
            raise InvalidInput("--model", "must not be empty")
        for name, least, told in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not (value > 0 if least is None else value >= least):
                raise InvalidInput(_option(name), told)

    def url(self, path: str) -> str:
        """The address of an API's path, which begins with /v1."""
        base = self.endpoint.rstrip("/").removesuffix("/v1")
        return f"{base}{path}"


def _option(name: str) -> str:
    return f"--{name.removesuffix('_s').replace('_', '-')}"
