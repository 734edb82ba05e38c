"""Which tiers the options put below the engine's own cache.

Source: vLLM 0.33.0, OffloadingConnector's and LMCacheMPConnector's extra_config, and `--kv-offloading-*`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from agentic_serving.capacity.runs import Interner
from agentic_serving.enginesim.lmtier import LMCacheTier
from agentic_serving.enginesim.options import ServeOptions
from agentic_serving.enginesim.transfer import Connectors
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.tiers import Link, MemoryTier, Tier, TierConfig

__all__ = ["tiers_of"]

_GIB = 2**30
#: Between host memory and the accelerator: PCIe 4 x16 reaches about 25 GB/s.
_BYTES_PER_S = 25e9


def tiers_of(
    options: ServeOptions, connectors: Connectors, names: Interner, block_bytes: int
) -> tuple[tuple[Tier, ...], LMCacheTier | None]:
    """The tiers in order, and the one that must be asked ahead.

    Raises:
        InvalidInput: a connector is named that the simulator does not have, or lacks what it needs.
    """
    found: list[Tier] = []
    lmcache: LMCacheTier | None = None
    for config in _configs(options, connectors):
        extra = config.get("kv_connector_extra_config") or {}
        name = config.get("kv_connector")
        if name == "LMCacheMPConnector":
            lmcache = _lmcache(extra, options, names, block_bytes)
            found.append(lmcache)
        elif name == "OffloadingConnector":
            found.append(_native(extra, block_bytes))
        elif name not in ("NixlConnector", "NixlPullConnector", "MooncakeConnector"):
            raise InvalidInput("--kv-transfer-config", f"the engine simulator has no connector {name}")
    return tuple(found), lmcache


def _configs(options: ServeOptions, connectors: Connectors) -> tuple[Mapping[str, Any], ...]:
    """`--kv-offloading-size` replaces the connector, as in vLLM."""
    if options.offload_gib is None:
        return connectors.configs
    if options.offload_backend == "lmcache":
        return ({"kv_connector": "LMCacheMPConnector"},)
    extra = {"cpu_bytes_to_use": int(options.offload_gib * _GIB)}
    return ({"kv_connector": "OffloadingConnector", "kv_connector_extra_config": extra},)


def _lmcache(
    extra: Mapping[str, Any], options: ServeOptions, names: Interner, block_bytes: int
) -> LMCacheTier:
    host = str(extra.get("lmcache.mp.host", "tcp://localhost"))
    address = urlsplit(host if "://" in host else f"tcp://{host}").hostname or "localhost"
    return LMCacheTier(
        f"http://{address}:{int(extra.get('lmcache.mp.port', 5555))}",
        names=names,
        block_tokens=options.block_tokens,
        block_bytes=block_bytes,
        timeout_s=float(extra.get("lmcache.mp.mq_timeout", 300)),
        prompt_only=not extra.get("lmcache.mp.save_decode_cache", False),
    )


def _native(extra: Mapping[str, Any], block_bytes: int) -> MemoryTier:
    if "cpu_bytes_to_use" not in extra:
        raise InvalidInput("--kv-transfer-config", "OffloadingConnector needs cpu_bytes_to_use")
    config = TierConfig(
        source="host",
        capacity_blocks=max(1, int(extra["cpu_bytes_to_use"]) // block_bytes),
        block_bytes=block_bytes,
        chunk_blocks=int(extra.get("blocks_per_chunk", 1)),
        stores_on="computed",
        prompt_only=bool(extra.get("offload_prompt_only", True)),
    )
    return MemoryTier(config, read=Link(_BYTES_PER_S), write=Link(_BYTES_PER_S))
