"""What is set by environment variables: the simulator's own knobs, and those of vLLM's that change its surface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agentic_serving.engines.versions import resolve
from agentic_serving.errors import InvalidInput

__all__ = ["Knobs"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Settings of one simulated engine.

    Raises:
        InvalidInput: a value is out of range; the field names the environment variable.
    """

    version: str = "0.33.0"
    profile: str | None = None  # None: fleet's default
    time_scale: float = 1.0  # real seconds per simulated second; 0 never waits
    seed: int = 0
    kv_blocks: int | None = None
    exact_tokens: int = 8192  # answers are exactly max_tokens long up to this
    mean_tokens: int = 128  # of answers whose length is drawn
    startup_s: float = 0.0  # real seconds
    script: Path | None = None
    dev_mode: bool = False  # VLLM_SERVER_DEV_MODE
    api_keys: tuple[str, ...] = ()  # VLLM_API_KEY
    keep_alive_s: float = 5.0  # VLLM_HTTP_TIMEOUT_KEEP_ALIVE; vllm/envs.py: 5
    side_channel_host: str = "localhost"  # VLLM_NIXL_SIDE_CHANNEL_HOST
    side_channel_port: int = 5600  # VLLM_NIXL_SIDE_CHANNEL_PORT
    cpu_kv_gib: float | None = None  # VLLM_CPU_KVCACHE_SPACE
    int_hashes: bool = True  # VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES

    def __post_init__(self) -> None:
        for name in ("time_scale", "startup_s", "keep_alive_s"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"ENGINESIM_{name.upper()}", "must not be negative")
        for name in ("kv_blocks", "exact_tokens", "mean_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"ENGINESIM_{name.upper()}", "must be at least 1")
        findings = resolve(self.version).findings
        if any(finding.severity == "Error" for finding in findings):
            raise InvalidInput("ENGINESIM_VERSION", findings[0].message)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Knobs":
        """What the environment says; empty values count as unset.

        Raises:
            InvalidInput: a value cannot be read or is out of range.
        """
        default = cls()
        read = _Reader(env)
        own = read.value("VLLM_API_KEY", str, "")
        return cls(
            version=read.value("ENGINESIM_VERSION", str, default.version),
            profile=read.value("ENGINESIM_PROFILE", str, None),
            time_scale=read.value("ENGINESIM_TIME_SCALE", float, default.time_scale),
            seed=read.value("ENGINESIM_SEED", int, default.seed),
            kv_blocks=read.value("ENGINESIM_KV_BLOCKS", int, None),
            exact_tokens=read.value("ENGINESIM_EXACT_TOKENS", int, default.exact_tokens),
            mean_tokens=read.value("ENGINESIM_MEAN_TOKENS", int, default.mean_tokens),
            startup_s=read.value("ENGINESIM_STARTUP_S", float, default.startup_s),
            script=read.value("ENGINESIM_SCRIPT", Path, None),
            dev_mode=read.value("VLLM_SERVER_DEV_MODE", int, 0) != 0,
            api_keys=(own,) if own else (),
            keep_alive_s=read.value("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", float, default.keep_alive_s),
            side_channel_host=read.value("VLLM_NIXL_SIDE_CHANNEL_HOST", str, default.side_channel_host),
            side_channel_port=read.value("VLLM_NIXL_SIDE_CHANNEL_PORT", int, default.side_channel_port),
            cpu_kv_gib=read.value("VLLM_CPU_KVCACHE_SPACE", float, None),
            int_hashes=read.value("VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES", int, 1) != 0,
        )


class _Reader:
    """Typed values of an environment."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def value(self, name: str, convert: Callable[[str], _T], default: _T) -> _T:
        text = self._env.get(name, "")
        if not text:
            return default
        try:
            return convert(text)
        except ValueError:
            raise InvalidInput(name, f"{text!r} cannot be read") from None
