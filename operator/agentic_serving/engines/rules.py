"""Why each option and each variable of an engine is generated: one table, with a source for each."""

from agentic_serving.api.rules import Rule

__all__ = ["GRACE_RULE", "POD_RULES", "SHM_RULE", "environment_rule", "option_rule"]

_CLI = "vLLM 0.33.0, vllm/entrypoints/common/cli_args.py"
_ARGS = "vLLM 0.33.0, vllm/engine/arg_utils.py"
_GUIDE = "llm-d v0.10, guides/pd-disaggregation/modelserver/gpu/vllm/base"

_OPTIONS = {
    "--served-model-name": (
        "clients ask for this name; without it they would need the path",
        "spec.model.name",
    ),
    "--port": ("the router, the sidecar and the probes reach the engine here", _CLI),
    "--revision": (
        "a restart loads the revision that the user named",
        "spec.model.source.huggingFace.revision",
    ),
    "--max-model-len": (
        "longer requests are refused instead of starving the others",
        "spec.model.contextLength",
    ),
    "--tensor-parallel-size": ("one replica is split over this many devices", "spec.topology"),
    "--pipeline-parallel-size": ("one replica is staged over this many groups of devices", "spec.topology"),
    "--data-parallel-size": ("one replica runs this many ranks of the whole model", "spec.topology"),
    "--enable-expert-parallel": (
        "experts are spread over the ranks instead of each being split",
        "spec.topology",
    ),
    "--enable-prefix-caching": (
        "agents send their whole history each turn; said outright because vLLM chooses by model otherwise",
        _ARGS,
    ),
    "--block-size": (
        "the router's prefix index counts in the same blocks; vLLM's own choice depends on the device",
        "llm-d v0.10, precise prefix cache guide: --block-size=64",
    ),
    "--max-num-seqs": (
        "the router admits ceil(1.04 x this) requests per replica, so it must be known rather than left to vLLM",
        "llm-d v0.10, docs/architecture, concurrency detector; vLLM 0.33.0, vllm/engine/arg_utils.py",
    ),
    "--shutdown-timeout": (
        "SIGTERM lets running requests finish for this long; vLLM's default aborts them",
        "spec.disruption.drainTimeout; vLLM 0.33.0, vllm/entrypoints/launchers/launcher.py",
    ),
    "--enable-force-include-usage": ("token accounting needs usage in every stream, asked for or not", _CLI),
    "--enable-prompt-tokens-details": ("the cached part of a prompt shows whether reuse works", _CLI),
    "--disable-access-log-for-endpoints": ("probes and scrapes would fill the log", _GUIDE),
    "--kv-transfer-config": (
        "moves KV cache between engines and tiers",
        "vLLM 0.33.0, vllm/config/kv_transfer.py; spec.topology.disaggregated, spec.kvTierPolicyRef",
    ),
    "--kv-events-config": (
        "the picker learns what this replica caches; the topic carries the port by which the picker knows the pod",
        "llm-d v0.10, precise prefix cache guide; spec.router.prefixRouting",
    ),
    "--attention-backend": (
        "on AMD, prefill and decode of different tensor parallelism exchange KV cache only in this layout",
        "llm-d v0.10, AMD overlay of guides/pd-disaggregation",
    ),
    "--enable-auto-tool-choice": (
        "agents let the model choose its tools",
        "vLLM docs/features/tool_calling.md",
    ),
    "--tool-call-parser": ("reads this model family's tool calls", "vLLM docs/features/tool_calling.md"),
    "--reasoning-parser": (
        "separates this model family's reasoning from its answer",
        "vLLM docs/features/reasoning_outputs.md",
    ),
}

_ENVS = "vLLM 0.33.0, vllm/envs.py"
_NONROOT = "vLLM, docker/entrypoints/vllm-nonroot-entrypoint.sh"
_ENVIRONMENT = {
    "POD_IP": ("other pods must be told the pod's own address", _GUIDE),
    "HOME": ("the user ID has no home in the image; caches default to it", _NONROOT),
    "USER": ("the user ID has no name in the image, and PyTorch looks it up", _NONROOT),
    "HF_HOME": (
        "weights are downloaded to a writable volume",
        "huggingface_hub, environment variables: HF_HOME",
    ),
    "HF_HUB_OFFLINE": (
        "weights are on a volume: nothing has to be asked of the hub",
        "huggingface_hub, environment variables: HF_HUB_OFFLINE",
    ),
    "HF_TOKEN": ("gated repositories need it", "spec.model.source.huggingFace.tokenSecretRef"),
    "VLLM_CACHE_ROOT": ("compiled kernels are written to a writable volume", _ENVS),
    "VLLM_NO_USAGE_STATS": (
        "nothing is reported to outside the cluster",
        "vLLM 0.33.0, vllm/usage/usage_lib.py",
    ),
    "VLLM_ENGINE_READY_TIMEOUT_S": (
        "loading may take as long as the startup probe allows; the default gives up after 10 minutes",
        _ENVS,
    ),
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": (
        "idle connections of the P/D sidecar live 90 s: closing them first breaks the next request",
        _GUIDE + ": 120",
    ),
    "VLLM_NIXL_SIDE_CHANNEL_HOST": ("the peer connects to this address; the default is localhost", _ENVS),
    "VLLM_NIXL_SIDE_CHANNEL_PORT": ("the port that the container declares", _ENVS),
    "UCX_TLS": (
        "without devices and RDMA only TCP connects pods",
        "llm-d v0.10, guides/pd-disaggregation, overlays with kv_buffer_device cpu: UCX_TLS=tcp",
    ),
}

SHM_RULE = Rule(
    id="engine/shared-memory",
    reason="shared memory is a memory volume: collectives need it, and offloaded KV cache lies in it",
    source=_GUIDE + ": 20Gi; vLLM 0.33.0, vllm/v1/kv_offload/cpu/shared_offload_region.py",
)
GRACE_RULE = Rule(
    id="engine/termination-grace",
    reason="the pod outlives its drain; it sleeps first, so that the router has noticed before it stops taking requests",
    source="vLLM 0.33.0, vllm/entrypoints/launchers/launcher.py: /health stays 200 while draining",
)
POD_RULES = (
    Rule(
        id="engine/no-service-links",
        reason="a Service named vllm would set VLLM_PORT to a URL, which vLLM refuses: enableServiceLinks is false",
        source="vLLM 0.33.0, vllm/envs.py, get_vllm_port",
    ),
    Rule(
        id="engine/startup-probe",
        reason="the startup probe outlasts downloading and loading the weights, 2 hours, before liveness counts",
        source="llm-d v0.10, agentic serving guide: startupProbe 30 s x 240",
    ),
    SHM_RULE,
    GRACE_RULE,
)


def option_rule(name: str, source: str | None = None) -> Rule:
    """The rule of a generated option; `source` where one entry of a table is the source."""
    reason, default = _OPTIONS[name]
    return Rule(id=f"engine/{name.removeprefix('--')}", reason=reason, source=source or default)


def environment_rule(name: str) -> Rule:
    """The rule of a generated variable."""
    reason, source = _ENVIRONMENT[name]
    return Rule(id=f"engine/env-{name.lower().replace('_', '-')}", reason=reason, source=source)
