"""The command line of `vllm serve`, checked against the recorded options of its version, and what it means here."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentic_serving.engines.options import Argument, parse
from agentic_serving.engines.tables import VersionTable
from agentic_serving.engines.versions import resolve

__all__ = ["ServeOptions", "UsageError", "parse_serve"]


class UsageError(Exception):
    """The command line is wrong: what vLLM's parser would print before it ends with exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the simulator follows of vLLM's options. Defaults are vLLM's."""

    model: str
    served_names: tuple[str, ...]
    host: str | None = None  # None: all interfaces
    port: int = 8000
    max_model_len: int | None = None  # None: the model's
    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    num_blocks: int | None = None
    kv_cache_bytes: int | None = None
    prefix_caching: bool = True
    hash_algorithm: str = "sha256"
    priority_scheduling: bool = False
    max_queued_requests: int | None = None
    shutdown_timeout_s: float = 0.0
    force_usage: bool = False
    prompt_details: bool = False
    auto_tools: bool = False
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None
    request_id_headers: bool = False
    load_tracking: bool = False
    api_keys: tuple[str, ...] = ()
    kv_transfer: Mapping[str, Any] = field(default_factory=dict)
    kv_events: Mapping[str, Any] = field(default_factory=dict)
    offload_gib: float | None = None
    offload_backend: str = "native"
    ignored: tuple[str, ...] = ()  # options that are valid and change nothing here


#: Options that would change what a client sees, and that the simulator cannot follow.
_UNSUPPORTED = (
    "--ssl-keyfile",
    "--ssl-certfile",
    "--uds",
    "--grpc",
    "--headless",
    "--root-path",
    "--middleware",
    "--config",
)
_SCALE = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def parse_serve(argv: Sequence[str], version: str, *, prog: str = "vllm serve") -> ServeOptions:
    """What comes after `vllm serve`.

    Raises:
        UsageError: vLLM of that version would refuse it, or the simulator cannot do it.
    """
    table = resolve(version).table
    if table is None:
        raise UsageError(f"no options are known of vLLM {version}")
    model, rest = _model(argv, table)
    arguments = parse(rest, table)
    _refuse(arguments, table, prog)
    given = _Given(arguments)
    model = model or given.text("--model") or "Qwen/Qwen3-0.6B"  # vllm/config/model.py: the default model
    if given.switch("--enable-auto-tool-choice") and not given.text("--tool-call-parser"):
        raise UsageError("Error: --enable-auto-tool-choice requires --tool-call-parser")
    return _options(model, given)


def _model(argv: Sequence[str], table: VersionTable) -> tuple[str | None, list[str]]:
    """The positional model, and the rest."""
    for argument in parse(argv, table):
        if argument.option is None and not argument.spelling.startswith("-"):
            return argument.spelling, [*argv[: argument.index], *argv[argument.index + 1 :]]
    return None, list(argv)


def _refuse(arguments: Sequence[Argument], table: VersionTable, prog: str) -> None:
    unknown = [a for a in arguments if a.option is None]
    if unknown:
        words = " ".join(" ".join((a.spelling, *a.values)) for a in unknown)
        raise UsageError(f"vllm: error: unrecognized arguments: {words}")
    for a in arguments:
        names = "/".join(a.option.names) if a.option else a.name
        if a.problem is not None:
            needs = "expected one argument" if "needs a value" in a.problem else a.problem
            raise UsageError(f"{prog}: error: argument {names}: {needs}")
        choices = (a.option.choices if a.option else None) or []
        wrong = [v for v in a.values if choices and v not in choices and "." not in a.spelling]
        if wrong:
            listed = ", ".join(map(repr, choices))
            raise UsageError(
                f"{prog}: error: argument {names}: invalid choice: {wrong[0]!r} (choose from {listed})"
            )
        if a.name in _UNSUPPORTED:
            raise UsageError(f"{prog}: error: argument {names}: the engine simulator cannot do this")
    parsers = [a.value for a in arguments if a.name == "--tool-call-parser"]
    plugin = any(a.name == "--tool-parser-plugin" for a in arguments)
    if parsers and not plugin and parsers[-1] not in table.tool_parsers:
        chosen = ",".join(table.tool_parsers)
        raise UsageError(f"KeyError: invalid tool call parser: {parsers[-1]} (chose from {{ {chosen} }})")


class _Given:
    """Typed values of the options that were given; the last of a name counts."""

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._arguments = arguments
        self.used: set[str] = set()

    def last(self, name: str) -> Argument | None:
        self.used.add(name)
        found = [a for a in self._arguments if a.name == name and "." not in a.spelling]
        return found[-1] if found else None

    def text(self, name: str) -> str | None:
        found = self.last(name)
        return found.value if found else None

    def texts(self, name: str) -> tuple[str, ...]:
        self.used.add(name)
        return tuple(v for a in self._arguments if a.name == name for v in a.values)

    def count(self, name: str) -> int | None:
        text = self.text(name)
        if text is None or text == "auto":
            return None
        match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgG]?)", text)
        if match is None:
            raise UsageError(f"vllm serve: error: argument {name}: invalid int value: {text!r}")
        value = float(match.group(1)) * _SCALE.get(match.group(2), 1)
        return int(value)

    def number(self, name: str) -> float | None:
        text = self.text(name)
        try:
            return None if text is None else float(text)
        except ValueError:
            raise UsageError(f"vllm serve: error: argument {name}: invalid float value: {text!r}") from None

    def switch(self, name: str, *, default: bool = False) -> bool:
        found = self.last(name)
        return default if found is None else not found.negated

    def json(self, name: str) -> dict[str, Any]:
        """A JSON option, with its dotted parts laid over it."""
        text = self.text(name)
        try:
            whole: dict[str, Any] = json.loads(text) if text else {}
        except ValueError:
            message = f"Value {text} cannot be converted to <function loads>"
            raise UsageError(f"vllm serve: error: argument {name}: {message}") from None
        for a in self._arguments:
            if a.name == name and "." in a.spelling:
                _lay(whole, a.spelling.split(".")[1:], a.value or "")
        return whole

    def ignored(self) -> tuple[str, ...]:
        return tuple(sorted({a.name for a in self._arguments if a.name not in self.used}))


def _lay(whole: dict[str, Any], path: Sequence[str], text: str) -> None:
    for step in path[:-1]:
        whole = whole.setdefault(step.replace("-", "_"), {})
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    whole[path[-1].replace("-", "_")] = value


def _options(model: str, given: _Given) -> ServeOptions:
    transfer = given.json("--kv-transfer-config")
    if transfer.get("kv_connector") and not transfer.get("kv_role"):
        raise UsageError("Value error, Please specify kv_role when kv_connector is set, supported roles are "
                         "('kv_producer', 'kv_both', 'kv_consumer')")  # fmt: skip
    max_len = given.count("--max-model-len")
    values: dict[str, Any] = {
        "served_names": given.texts("--served-model-name") or (model,),
        "host": given.text("--host"),
        "port": given.count("--port"),
        "max_model_len": None if max_len == -1 else max_len,
        "block_tokens": given.count("--block-size"),
        "max_num_seqs": given.count("--max-num-seqs"),
        "max_num_batched_tokens": given.count("--max-num-batched-tokens"),
        "num_blocks": given.count("--num-gpu-blocks-override"),
        "kv_cache_bytes": given.count("--kv-cache-memory-bytes"),
        "prefix_caching": given.switch("--enable-prefix-caching", default=True),
        "hash_algorithm": given.text("--prefix-caching-hash-algo"),
        "priority_scheduling": given.text("--scheduling-policy") == "priority",
        "max_queued_requests": given.count("--max-num-queued-reqs"),
        "shutdown_timeout_s": given.number("--shutdown-timeout"),
        "force_usage": given.switch("--enable-force-include-usage"),
        "prompt_details": given.switch("--enable-prompt-tokens-details"),
        "auto_tools": given.switch("--enable-auto-tool-choice"),
        "tool_parser": given.text("--tool-call-parser"),
        "reasoning_parser": given.text("--reasoning-parser") or None,
        "chat_template": given.text("--chat-template"),
        "request_id_headers": given.switch("--enable-request-id-headers"),
        "load_tracking": given.switch("--enable-server-load-tracking"),
        "api_keys": given.texts("--api-key"),
        "kv_transfer": transfer,
        "kv_events": given.json("--kv-events-config"),
        "offload_gib": given.number("--kv-offloading-size"),
        "offload_backend": given.text("--kv-offloading-backend"),
    }
    present = {name: value for name, value in values.items() if value is not None}
    return ServeOptions(model=model, ignored=given.ignored(), **present)
