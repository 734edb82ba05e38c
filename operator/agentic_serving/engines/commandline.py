"""vLLM's generated command-line options: always in the same order, in long form, each with its rule."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentic_serving.engines.base import EngineInputs, Option, Tuning, literal
from agentic_serving.engines.environment import uses_nixl
from agentic_serving.engines.rules import option_rule
from agentic_serving.engines.tables import EngineTable, Family, VersionTable
from agentic_serving.errors import Bug

__all__ = ["Context", "command_options"]

_QUIET_ENDPOINTS = "/health,/metrics,/v1/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The inputs, with what tables and the user make of them."""

    inputs: EngineInputs
    engine: EngineTable
    table: VersionTable
    tuning: Tuning
    family: Family | None


def command_options(context: Context) -> tuple[Option, ...]:
    """The options; a caller adds the model before and the user's own after them."""
    inputs, settings = context.inputs, context.tuning
    pairs: list[tuple[str, str | None]] = [
        ("--served-model-name", literal(inputs.served_name)),
        ("--port", str(inputs.port)),
    ]
    if inputs.revision is not None:
        pairs.append(("--revision", literal(inputs.revision)))
    if inputs.context_length is not None:
        pairs.append(("--max-model-len", str(inputs.context_length)))
    pairs += _parallel(inputs)
    pairs += [
        ("--enable-prefix-caching", None),
        ("--block-size", str(settings.block_tokens)),
        ("--max-num-seqs", str(settings.max_num_seqs)),
        ("--shutdown-timeout", str(inputs.shutdown_timeout_s)),
        ("--enable-force-include-usage", None),
        ("--enable-prompt-tokens-details", None),
        ("--disable-access-log-for-endpoints", _QUIET_ENDPOINTS),
    ]
    pairs += _transfer(inputs)
    options = [Option(name=name, value=value, rule=option_rule(name)) for name, value in pairs]
    return (*options, *_parsers(context), *_accelerator_options(context))


def _parallel(inputs: EngineInputs) -> list[tuple[str, str | None]]:
    split = inputs.parallelism
    sizes = [
        ("--tensor-parallel-size", split.tensor),
        ("--pipeline-parallel-size", split.pipeline),
        ("--data-parallel-size", split.data),
    ]
    pairs: list[tuple[str, str | None]] = [(name, str(size)) for name, size in sizes if size > 1]
    if split.expert:
        pairs.append(("--enable-expert-parallel", None))
    return pairs


def _transfer(inputs: EngineInputs) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    if inputs.connector is not None:
        pairs.append(("--kv-transfer-config", _json(inputs.connector)))
    if inputs.kv_events is not None:
        pairs.append(("--kv-events-config", _kv_events(inputs)))
    differs = inputs.peer_tensor not in (None, inputs.parallelism.tensor)
    if inputs.accelerator.vendor == "AMD" and differs and uses_nixl(inputs):
        pairs.append(("--attention-backend", "ROCM_ATTN"))
    return pairs


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _kv_events(inputs: EngineInputs) -> str:
    events = inputs.kv_events
    if events is None:
        raise Bug("no KV events are asked for")
    return _json(
        {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{events.port}",
            "topic": f"kv@$(POD_IP):{events.endpoint_port}@{literal(inputs.served_name)}",
        }
    )


def _parsers(context: Context) -> tuple[Option, ...]:
    """Tool calls and reasoning: the user's parsers, else those of the model's family."""
    settings, family = context.tuning, context.family
    found: list[Option] = []
    tool_source = _parser_source(family, settings.tool_parser, family.tool if family else None)
    if settings.auto_tool_choice:
        found.append(
            Option(
                name="--enable-auto-tool-choice", rule=option_rule("--enable-auto-tool-choice", tool_source)
            )
        )
    if settings.tool_parser is not None:
        name = "--tool-call-parser"
        found.append(Option(name=name, value=settings.tool_parser, rule=option_rule(name, tool_source)))
    if settings.reasoning_parser is not None:
        name = "--reasoning-parser"
        source = _parser_source(family, settings.reasoning_parser, family.reasoning if family else None)
        found.append(Option(name=name, value=settings.reasoning_parser, rule=option_rule(name, source)))
    return tuple(found)


def _parser_source(family: Family | None, used: str | None, familys: str | None) -> str:
    return family.source if family is not None and used == familys else "spec.engine.args"


def _accelerator_options(context: Context) -> tuple[Option, ...]:
    """The accelerator's own, where the user says nothing else."""
    table = context.table.options
    users = {text.partition("=")[0] for text in context.inputs.user_args}
    users = {table[name].name for name in users if name in table}
    settings = [s for s in context.inputs.accelerator.args if s.name not in users]
    rules = [
        replace(option_rule("--port"), id=f"accelerator/{s.name[2:]}", reason=s.reason, source=s.source)
        for s in settings
    ]
    return tuple(
        Option(name=s.name, value=s.value or None, rule=r) for s, r in zip(settings, rules, strict=True)
    )
