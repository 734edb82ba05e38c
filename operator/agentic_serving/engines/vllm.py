"""vLLM: from what is asked of a role to its command line, environment, probes and abilities. Pure.

Options are generated in long form and always the same order, each as one `--name=value` element, so that no
value can become an option. Nothing here depends on anything but its inputs and the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentic_serving.api.findings import Finding
from agentic_serving.api.quantities import parse_bytes
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.engines.abilities import capabilities, image_packages, package_findings
from agentic_serving.engines.base import (
    EngineInputs,
    EnginePlan,
    Option,
    Probe,
    Probes,
    Tuning,
    UserEnv,
    literal,
)
from agentic_serving.engines.commandline import Context, command_options
from agentic_serving.engines.connectors import (
    COMBINE_RULE,
    NIXL_PORT,
    NIXL_RULE,
    RECOMPUTE_RULE,
    children,
    combine,
    connector_problems,
    nixl_connector,
)
from agentic_serving.engines.environment import STARTUP_S, environment, uses_nixl
from agentic_serving.engines.rules import POD_RULES
from agentic_serving.engines.tables import VersionTable, load_vllm
from agentic_serving.engines.userinput import (
    BLOCK_TOKENS,
    check_user_args,
    check_user_env,
    remaining_args,
    tuned,
)
from agentic_serving.engines.versions import resolve
from agentic_serving.errors import Bug

__all__ = [
    "BLOCK_TOKENS",
    "RUN_AS_USER",
    "combine",
    "default_version",
    "nixl_connector",
    "packages",
    "plan",
    "tokenizer_args",
    "tuning",
]

#: User of vLLM's own image for running without root. Source: vLLM, docker/entrypoints/vllm-nonroot-entrypoint.sh.
RUN_AS_USER = 2000
#: Time for the router to see that a pod is going before it stops taking requests; its informers take well under a second.
PRE_STOP_S = 5
#: From the end of the drain to the end of the process: API server, engine core and workers stop one after another.
STOP_MARGIN_S = 30


def default_version() -> str:
    """The version that stacks run which name none."""
    return load_vllm().default_version


def tuning(
    user_args: Sequence[str], user_env: Sequence[UserEnv], accelerator: Accelerator, version: str
) -> Tuning:
    """What the user's arguments change for router, sizing and tiers as well: needed before `plan`."""
    return tuned(user_args, user_env, accelerator, _table(version))


def packages(accelerator: Accelerator, version: str, *, custom_image: bool) -> tuple[str, ...] | None:
    """Connector packages in the engine's image, for the tiers; None for an image of the user's own."""
    return image_packages(accelerator, _table(version), custom_image=custom_image)


def tokenizer_args(model_ref: str, *, revision: str | None = None, port: int = 8000) -> tuple[str, ...]:
    """Container arguments of the tokenizer for precise prefix routing: vLLM's render server, which needs no device.

    Source: vLLM 0.33.0, vllm/entrypoints/cli/launch.py; llm-d v0.10, precise prefix cache guide.
    """
    args = ["launch", "render", literal(model_ref), f"--port={port}"]
    if revision:
        args.append(f"--revision={literal(revision)}")
    return tuple(args)


def plan(inputs: EngineInputs) -> EnginePlan:
    """The engine container of one role. A plan with an Error among its findings must not be run."""
    context = _context(inputs)
    options = command_options(context)
    variables = environment(inputs)
    nixl = uses_nixl(inputs)
    request, limit = _memory(inputs)
    return EnginePlan(
        command=("vllm", "serve"),
        args=(literal(inputs.model_ref), *(o.text for o in options), *_user_args(context)),
        options=options,
        env=variables,
        port=inputs.port,
        metrics_port=inputs.port,
        kv_events_port=inputs.kv_events.port if inputs.kv_events else None,
        nixl_port=NIXL_PORT if nixl else None,
        ports=_ports(inputs, nixl=nixl),
        shm_bytes=inputs.accelerator.shared_memory_bytes + inputs.tier_shm_bytes,
        memory_request_bytes=request,
        memory_limit_bytes=limit,
        run_as_user=RUN_AS_USER,
        block_tokens=context.tuning.block_tokens,
        max_num_seqs=context.tuning.max_num_seqs * inputs.parallelism.data,
        probes=_probes(inputs.port),
        pre_stop_s=PRE_STOP_S,
        termination_grace_s=PRE_STOP_S + inputs.shutdown_timeout_s + STOP_MARGIN_S,
        rules=(*POD_RULES, *_connector_rules(inputs.connector)),
        capabilities=capabilities(inputs, context.tuning, context.table),
        findings=tuple(_findings(context, options)),
    )


def _table(version: str) -> VersionTable:
    """The version's table; the oldest for a version that is refused anyway, so that one pass finds all problems."""
    return resolve(version).table or load_vllm().versions[0]


def _context(inputs: EngineInputs) -> Context:
    engine = load_vllm()
    table = _table(inputs.version)
    own = tuned(inputs.user_args, inputs.user_env, inputs.accelerator, table)
    family = engine.family(inputs.model_ref, inputs.served_name)
    if own.tool_parser is None and family is not None and own.auto_tool_choice is not False:
        own = replace(own, tool_parser=family.tool)
    if own.reasoning_parser is None and family is not None:
        own = replace(own, reasoning_parser=family.reasoning)
    if own.auto_tool_choice is None and own.tool_parser is not None:
        own = replace(own, auto_tool_choice=True)
    return Context(inputs=inputs, engine=engine, table=table, tuning=own, family=family)


def _user_args(context: Context) -> tuple[str, ...]:
    return remaining_args(context.inputs.user_args, context.engine, context.table)


def _ports(inputs: EngineInputs, *, nixl: bool) -> tuple[tuple[str, int], ...]:
    ports = [("http", inputs.port)]
    if inputs.kv_events is not None:
        ports.append(("kv-events", inputs.kv_events.port))
    if nixl:
        ports.append(("nixl", NIXL_PORT))
    return tuple(ports)


def _probes(port: int) -> Probes:
    """vLLM listens once the weights are loaded; afterwards /health fails only when the engine is dead."""

    def probe(*, failures: int, timeout_s: int) -> Probe:
        return Probe(path="/health", port=port, period_s=10, timeout_s=timeout_s, failure_threshold=failures)

    return Probes(
        startup=probe(failures=STARTUP_S // 10, timeout_s=5),
        readiness=probe(failures=3, timeout_s=5),
        # A busy API server answers late: a minute of silence before a restart that would lose every cache.
        liveness=probe(failures=6, timeout_s=10),
    )


def _memory(inputs: EngineInputs) -> tuple[int | None, int | None]:
    """(request, limit) in bytes; a memory volume counts against the containers that write to it."""
    base = inputs.host_memory_bytes
    if base is None and inputs.accelerator.memory_request is not None:
        base = parse_bytes(inputs.accelerator.memory_request)
    if base is not None:
        return base + inputs.tier_memory_bytes, base + inputs.tier_memory_bytes
    return inputs.tier_memory_bytes or None, None


def _connector_rules(connector: Mapping[str, Any] | None) -> tuple[Rule, ...]:
    names = [part.get("kv_connector") for part in children(connector)]
    rules = []
    if "NixlConnector" in names:
        rules.append(NIXL_RULE)
    if connector is not None and connector.get("kv_load_failure_policy") == "recompute":
        rules.append(RECOMPUTE_RULE)
    if len(names) > 1:
        rules.append(COMBINE_RULE)
    return tuple(rules)


def _findings(context: Context, options: Sequence[Option]) -> list[Finding]:
    inputs, table = context.inputs, context.table
    found = list(resolve(inputs.version).findings)
    if inputs.model_ref.startswith("-"):
        message = "starts with a dash, which vLLM would read as an option: name another folder or repository"
        found.append(Finding(path="spec.model.source", reason="InvalidModelReference", message=message))
    if context.tuning.auto_tool_choice and context.tuning.tool_parser is None:
        message = "--enable-auto-tool-choice needs a parser: add --tool-call-parser"
        found.append(Finding(path="spec.engine.args", reason="MissingParser", message=message))
    replaceable = {s.name for s in inputs.accelerator.args}
    generated = [o.name for o in options if o.name not in replaceable]
    found += check_user_args(
        inputs.user_args, context.engine, table, accelerator=inputs.accelerator, generated=generated
    )
    settings = {s.name for s in inputs.accelerator.env}
    users = {e.name for e in inputs.user_env}
    others = [v.name for v in environment(replace(inputs, user_env=())) if v.name not in settings & users]
    found += check_user_env(inputs.user_env, context.engine, generated=others)
    found += package_findings(inputs, table)
    problems = connector_problems(inputs.connector, table)
    if problems:
        raise Bug(f"the generated connector is wrong: {'; '.join(problems)}")
    return found
