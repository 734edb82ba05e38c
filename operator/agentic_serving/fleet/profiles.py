"""Time profiles by name: a few measured or assumed ones, and any known model on any known accelerator.

A derived profile is a roofline: prefill is bound by arithmetic, decoding by reading memory. Per device, with the
weights, heads and cache split evenly over `tensor` devices:
- a prompt token costs 2 operations per active parameter; a pair of tokens in attention 4 operations per layer, head
  and head dimension (scores and values);
- a step reads the weights once; a decoding request reads its context's K and V, which keeps every layer's here.
The shares of the peak that are reached are those of a calibrated vLLM simulator for the H100, used for all devices.
Left out: collectives between devices, which the shares hide in part, sliding windows and latent attention's
arithmetic (both make real attention cheaper), and quantised arithmetic. So: right in shape, within a factor of two in
size; where seconds matter, fit a profile on the engine (`fleet.fit`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agentic_serving.capacity.accelerator import Accelerator, find_accelerator
from agentic_serving.capacity.models import find_model, load_models
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile

__all__ = ["ACTIVE_PARAMETERS", "NAMED", "derive", "find_profile"]

#: Shares of peak arithmetic (prefill) and of peak memory bandwidth (decode) that vLLM reaches.
#: Source: github.com/inference-sim/inference-sim, hardware_config.json, H100: mfuPrefill 0.65, BwEffConstant 0.72.
PREFILL_SHARE = 0.65
BANDWIDTH_SHARE = 0.72
#: Scheduling and launching per step on the host. An assumption: vLLM's steps of models that fit a small GPU take
#: 2 to 10 ms, of which the weights explain all but a millisecond or two.
HOST_S = 0.0015


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of a mixture of experts: how many one token uses, and how many there are."""

    active: float
    total: float
    source: str


#: Dense models use all of theirs, which their weights' bytes tell.
ACTIVE_PARAMETERS: Mapping[str, Parameters] = MappingProxyType(
    {
        "openai/gpt-oss-120b": Parameters(5.1e9, 116.8e9, "huggingface.co/openai/gpt-oss-120b, model card"),
        "openai/gpt-oss-20b": Parameters(3.6e9, 20.9e9, "huggingface.co/openai/gpt-oss-20b, model card"),
        "deepseek-ai/DeepSeek-V3": Parameters(37e9, 671e9, "arXiv 2412.19437, abstract"),
        "deepseek-ai/DeepSeek-R1": Parameters(
            37e9, 671e9, "huggingface.co/deepseek-ai/DeepSeek-R1, model card"
        ),
        "Qwen/Qwen3-235B-A22B": Parameters(22e9, 235e9, "arXiv 2505.09388, table of models"),
        "Qwen/Qwen3-30B-A3B": Parameters(3.3e9, 30.5e9, "huggingface.co/Qwen/Qwen3-30B-A3B, model card"),
        "Qwen/Qwen3-Coder-480B-A35B-Instruct": Parameters(
            35e9, 480e9, "huggingface.co/Qwen/Qwen3-Coder-480B-A35B-Instruct, model card"
        ),
    }
)

NAMED: Mapping[str, StepProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            StepProfile(
                name="sketch",
                source="assumed: 15,000 prompt tokens/s and 20 ms per answer token whatever the batch, a mid-size "
                "model on one node; for comparisons of policies, not for seconds",
                base_s=0.02,
                prefill_token_s=1 / 15_000,
            ),
            StepProfile(
                name="sketch-fast",
                source="assumed: as `sketch`, with prefill four times as fast",
                base_s=0.02,
                prefill_token_s=1 / 60_000,
            ),
            StepProfile(
                name="cpu-tiny",
                source="measured: vLLM 0.32 on 2 CPU cores, tiny random Llama, fitted to the engine's own histograms: "
                "docs/benchmarks.md, the engine simulator beside real vLLM",
                base_s=0.0030,
                prefill_token_s=1.01e-5,
                attention_s=1.49e-8,
                context_token_s=1.19e-7,
            ),
        )
    }
)


def find_profile(name: str, *, field: str = "profile") -> StepProfile:
    """A named profile, or `MODEL@ACCELERATOR` or `MODEL@ACCELERATOR/TENSOR` derived from the tables.

    Raises:
        InvalidInput: there is none of this name, or the tables do not say enough; the message says what there is.
    """
    if name in NAMED:
        return NAMED[name]
    model_name, at, rest = name.partition("@")
    if not at:
        raise InvalidInput(
            field, f"there is no {name!r}; use one of {', '.join(NAMED)} or MODEL@ACCELERATOR/TENSOR"
        )
    preset, slash, tensor = rest.partition("/")
    if slash and not (tensor.isdecimal() and int(tensor) >= 1):
        raise InvalidInput(field, f"{tensor!r} in {name!r} must be a number of devices")
    model = find_model(model_name)
    if model is None:
        raise InvalidInput(field, f"there is no model {model_name!r}; use one of {', '.join(load_models())}")
    return derive(model, find_accelerator(preset, field=field), tensor=int(tensor or 1), field=field)


def derive(
    model: ModelProfile, accelerator: Accelerator, *, tensor: int = 1, field: str = "profile"
) -> StepProfile:
    """The roofline of a model on `tensor` devices, as the module describes it.

    Raises:
        InvalidInput: the tables lack a size that it needs; the message names it.
    """
    flops, bandwidth = accelerator.bf16_flops_per_s, accelerator.hbm_bytes_per_s
    if flops is None or bandwidth is None:
        raise InvalidInput(field, f"{accelerator.name} has no bf16FlopsPerS or hbmBytesPerS in its table")
    heads, layers, head_dim = model.n_attention_heads, model.n_layers, model.head_dim
    weights = model.weight_bytes
    if heads is None or layers is None or weights is None:
        raise InvalidInput(field, f"{model.name} has no weightBytes, layers or heads in its table")
    parameters = _parameters(model, weights, field)
    flops_per_s = flops * PREFILL_SHARE * tensor
    bytes_per_s = bandwidth * BANDWIDTH_SHARE * tensor
    active_bytes = weights * parameters.active / parameters.total
    return StepProfile(
        name=f"{model.name}@{accelerator.name}/{tensor}",
        source=f"roofline: {parameters.source}; {'; '.join(model.sources)}; accelerator table",
        base_s=HOST_S + active_bytes / bytes_per_s,
        prefill_token_s=2 * parameters.active / flops_per_s,
        attention_s=4 * layers * heads * (head_dim or 128) / flops_per_s,
        sequence_s=_expert_bytes(weights, active_bytes) / bytes_per_s,
        context_token_s=model.kv_bytes_per_token * model.copies(tensor) / bytes_per_s,
    )


def _expert_bytes(weights: int, active_bytes: float) -> float:
    """Weights that each further request of a batch adds to a step: other experts, until all are read.

    A batch of twice (all ÷ active) requests reads 86 % of evenly chosen experts; a line from one request to there.
    """
    if active_bytes >= weights:
        return 0.0
    return (weights - active_bytes) / (2 * weights / active_bytes)


def _parameters(model: ModelProfile, weights: int, field: str) -> Parameters:
    known = ACTIVE_PARAMETERS.get(model.name)
    if known is not None:
        return known
    if model.mixture_of_experts:
        raise InvalidInput(field, f"the active parameters of {model.name} are not in the table")
    count = weights / 2  # bf16: the table's dense models
    return Parameters(count, count, "weights of 2 bytes each")
