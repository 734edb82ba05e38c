"""From options and knobs to an engine with its frontend."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentic_serving.capacity.inspect import inspect_path
from agentic_serving.capacity.models import find_model
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.capacity.runs import Interner
from agentic_serving.enginesim.answer import Planner
from agentic_serving.enginesim.engine import Engine
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.kvevents import BlockTokens, EventPublisher
from agentic_serving.enginesim.lmtier import LMCacheTier
from agentic_serving.enginesim.metrics import CacheInfo, EngineMetrics
from agentic_serving.enginesim.options import ServeOptions
from agentic_serving.enginesim.pace import Pacer
from agentic_serving.enginesim.render import load_renderer
from agentic_serving.enginesim.script import load_script
from agentic_serving.enginesim.service import Service
from agentic_serving.enginesim.tiers import tiers_of
from agentic_serving.enginesim.tokens import load_tokenizer
from agentic_serving.enginesim.transfer import Transfer, connectors_of
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile, parse_profile
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.tiers import BlockLink, Link
from agentic_serving.fleet.types import Limits

__all__ = ["Built", "Sizes", "build", "sizes_of"]

log = logging.getLogger(__name__)

_GIB = 2**30
#: Bytes of K and V per token of a model that nothing is known of: a 30B model with grouped heads.
_UNKNOWN_TOKEN_BYTES = 131_072
#: Context of a model that nothing is known of.
_UNKNOWN_CONTEXT = 131_072
#: KV cache where nothing says its size: a large accelerator's, in tokens.
_DEFAULT_TOKENS = 524_288
#: Between prefill and decode: 25 GB/s, one 200 Gbit/s port.
_LINK_BYTES_PER_S = 25e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What model and options make of the cache."""

    max_model_len: int
    n_blocks: int
    block_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One engine, ready to run."""

    service: Service
    engine: Engine
    metrics: EngineMetrics
    transfer: Transfer
    lmcache: LMCacheTier | None
    events: EventPublisher | None


def sizes_of(options: ServeOptions, knobs: Knobs) -> Sizes:
    """Context and cache sizes.

    Raises:
        InvalidInput: the cache cannot hold one sequence of the context's length: vLLM does not start either.
    """
    model = _model(options)
    token_bytes = model.all_layers_bytes_per_token if model else _UNKNOWN_TOKEN_BYTES
    context = options.max_model_len or (model.max_context_tokens if model else None) or _UNKNOWN_CONTEXT
    block_bytes = token_bytes * options.block_tokens
    n_blocks = _n_blocks(options, knobs, block_bytes)
    if (n_blocks - 1) * options.block_tokens < context:
        message = (
            f"To serve at least one request with the models's max seq len ({context}), more KV cache is needed than "
            f"the available {n_blocks} blocks of {options.block_tokens} tokens: lower --max-model-len or raise "
            "ENGINESIM_KV_BLOCKS"
        )
        raise InvalidInput("--max-model-len", message)
    return Sizes(max_model_len=context, n_blocks=n_blocks, block_bytes=block_bytes)


def _n_blocks(options: ServeOptions, knobs: Knobs, block_bytes: int) -> int:
    if knobs.kv_blocks is not None:
        return knobs.kv_blocks
    if options.num_blocks is not None:
        return options.num_blocks
    if options.kv_cache_bytes is not None:
        return options.kv_cache_bytes // block_bytes
    if knobs.cpu_kv_gib is not None:
        return int(knobs.cpu_kv_gib * _GIB) // block_bytes
    wanted = max(_DEFAULT_TOKENS, 2 * (options.max_model_len or 0))
    return wanted // options.block_tokens + 1


def _model(options: ServeOptions) -> ModelProfile | None:
    """The model by its folder, its repository's name, or the name it is served under."""
    folder = Path(options.model)
    if (folder / "config.json").is_file():
        found = inspect_path(folder)
        return found if isinstance(found, ModelProfile) else None
    names = (options.model, *options.served_names)
    return next((model for name in names if (model := find_model(name)) is not None), None)


def build(options: ServeOptions, knobs: Knobs, pacer: Pacer) -> Built:
    """Put the engine together; the event loop must be running.

    Raises:
        InvalidInput: a knob or a file it names is wrong.
    """
    sizes = sizes_of(options, knobs)
    connectors = connectors_of(options.kv_transfer)
    names = Interner()
    tiers, lmcache = tiers_of(options, connectors, names, sizes.block_bytes)
    replica = Replica(
        Limits(
            n_blocks=sizes.n_blocks,
            block_size=options.block_tokens,
            max_batched_tokens=max(options.max_num_batched_tokens, options.max_num_seqs),
            max_seqs=options.max_num_seqs,
            policy="priority" if options.priority_scheduling else "fcfs",
            prefix_caching=options.prefix_caching,
        ),
        profile_of(knobs),
        tiers=tiers,
        link=BlockLink(Link(_LINK_BYTES_PER_S), sizes.block_bytes) if connectors.p2p else None,
        record_events=bool(options.kv_events.get("enable_kv_cache_events")),
    )
    engine = Engine(
        replica,
        pacer,
        names=names,
        block_tokens=options.block_tokens,
        hash_algorithm=options.hash_algorithm,
        lookup=lmcache.refresh if lmcache else None,
    )
    transfer = Transfer(
        options=options, host=knobs.side_channel_host, port=knobs.side_channel_port, connectors=connectors,
        release=engine.release,
    )  # fmt: skip
    cache = CacheInfo(
        block_size=options.block_tokens, num_gpu_blocks=sizes.n_blocks,
        prefix_caching=options.prefix_caching, hash_algorithm=options.hash_algorithm,
    )  # fmt: skip
    consumer = options.kv_transfer.get("kv_role") in ("kv_consumer", "kv_both")
    metrics = EngineMetrics(
        options.served_names[0],
        sizes.max_model_len,
        replica,
        cache,
        consumer=consumer,
        sources={"host": "external_unspecified"} if lmcache else None,
    )
    engine.observe(transfer)
    engine.observe(metrics)
    return Built(
        service=_service(options, knobs, sizes, engine, transfer),
        engine=engine,
        metrics=metrics,
        transfer=transfer,
        lmcache=lmcache,
        events=_events(options, knobs, engine),
    )


def _events(options: ServeOptions, knobs: Knobs, engine: Engine) -> EventPublisher | None:
    """The publisher of KV events, if they are asked for."""
    config = options.kv_events
    if not config.get("enable_kv_cache_events") or config.get("publisher", "zmq") != "zmq":
        return None
    tokens = BlockTokens(options.block_tokens)
    publisher = EventPublisher(config, engine.names, tokens, as_int=knobs.int_hashes)
    engine.observe(publisher)
    return publisher


def _service(
    options: ServeOptions, knobs: Knobs, sizes: Sizes, engine: Engine, transfer: Transfer
) -> Service:
    tokenizer = load_tokenizer(options.model)
    script = load_script(knobs.script)
    return Service(
        options=options,
        max_model_len=sizes.max_model_len,
        tokenizer=tokenizer,
        renderer=load_renderer(options.model, options.chat_template),
        planner=Planner(tokenizer, script, knobs, reasoning=options.reasoning_parser is not None),
        engine=engine,
        transfer=transfer,
        version=knobs.version,
        fingerprint=f"vllm-{knobs.version}-{_digest(options)}",
    )


def _digest(options: ServeOptions) -> str:
    return hashlib.sha256(repr(options).encode()).hexdigest()[:8]


def profile_of(knobs: Knobs) -> StepProfile:
    """The time profile: fleet's by name, or one in a file.

    Raises:
        InvalidInput: there is no such profile or file, or it is not as it should be.
    """
    if knobs.profile is None:
        return find_profile("sketch")
    file = Path(knobs.profile)
    if not file.suffix:
        return find_profile(knobs.profile)
    try:
        text = file.read_text(encoding="utf-8")
        data: Any = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput("ENGINESIM_PROFILE", str(error)) from None
    return parse_profile(data, field="ENGINESIM_PROFILE")
