"""capacity.sizing: what surely does not fit is refused with the numbers and the change that helps; the rest is not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.accelerator import find_accelerator
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.capacity.sizing import Memory, Parallelism, Unknown, fits, lookup_profile

GIB = 1024**3


def known(name: str) -> ModelProfile:
    profile = lookup_profile(name)
    assert isinstance(profile, ModelProfile)
    return profile


@pytest.mark.parametrize(
    ("model", "preset", "split", "context", "state", "says"),
    [
        pytest.param("Qwen/Qwen3-32B", "nvidia-h200", {}, None, "Fits", ["Qwen/Qwen3-32B fits"], id="fits"),
        pytest.param(
            # 894.4 GiB of bf16 weights; eight H200 have room for 8 x 125.1 GiB, eight H100 for 8 x 69.3 GiB.
            "Qwen/Qwen3-Coder-480B-A35B-Instruct",
            "nvidia-h200",
            {"tensor": 4},
            None,
            "DoesNotFit",
            ["894.4 GiB of weights", "223.6 GiB on each device", "4 x nvidia-h200", "set tensor to 8"],
            id="weights need more devices",
        ),
        pytest.param(
            "Qwen/Qwen3-Coder-480B-A35B-Instruct",
            "nvidia-h100",
            {"tensor": 8},
            None,
            "DoesNotFit",
            ["use a smaller or quantised model, or an accelerator with more memory"],
            id="no number of devices of a node helps",
        ),
        pytest.param(
            # 320 KiB a token: 131,072 tokens take 40 GiB; two H100 leave 7 GiB beside 131.4 GiB of weights.
            "meta-llama/Llama-3.3-70B-Instruct",
            "nvidia-h100",
            {"tensor": 2},
            None,
            "DoesNotFit",
            ["131072 tokens", "40.0 GiB", "spec.model.contextLength to at most 2", "or set tensor to 4"],
            id="its longest context does not fit",
        ),
        pytest.param(
            "meta-llama/Llama-3.3-70B-Instruct",
            "nvidia-h100",
            {"tensor": 2},
            16_384,
            "Fits",
            [],
            id="a shorter does",
        ),
        pytest.param(
            "Qwen/Qwen3-32B",
            "nvidia-h100",
            {},
            None,
            "Unknown",
            ["it is not sure that this fits", "10.0 GiB of KV cache", "set tensor to 2"],
            id="only the estimated reserve is in the way",
        ),
        pytest.param(
            "Qwen/Qwen3-32B",
            "nvidia-h200",
            {"tensor": 3},
            None,
            "DoesNotFit",
            ["tensor 3 does not divide the 64 attention heads"],
            id="heads cannot be split in three",
        ),
        pytest.param(
            "Qwen/Qwen3-32B",
            "nvidia-h200",
            {"tensor": 8, "data": 2},
            None,
            "DoesNotFit",
            ["is 16 devices, but a node with nvidia-h200 has 8"],
            id="more devices than a node has",
        ),
        pytest.param(
            "deepseek-ai/DeepSeek-R1",
            "nvidia-h200",
            {"data": 8, "expert": True},
            None,
            "Unknown",
            ["80.2 GiB to 641.3 GiB of weights on each device"],
            id="experts over data-parallel ranks",
        ),
        pytest.param(
            "zai-org/GLM-5.2-FP8",
            "nvidia-h200",
            {"tensor": 8},
            None,
            "Unknown",
            ["weight bytes"],
            id="no weights known",
        ),
        pytest.param(
            "Qwen/Qwen3-32B",
            "cpu",
            {},
            None,
            "DoesNotFit",
            ["93.0 GiB", "64Gi", "hostMemory"],
            id="host memory",
        ),
        pytest.param(
            "meta-llama/Llama-3.2-3B-Instruct", "cpu", {}, None, "Fits", [], id="small enough for a CPU"
        ),
    ],
)
def test_fits(
    model: str, preset: str, split: dict[str, int], context: int | None, state: str, says: list[str]
) -> None:
    found = fits(known(model), find_accelerator(preset), Parallelism(**split), context_tokens=context)
    assert found.state == state, found.message
    assert [text for text in says if text not in found.message] == []
    assert found.ok is (state != "DoesNotFit")


def test_an_unknown_model_is_not_refused() -> None:
    found = fits(Unknown("sizing off: nobody knows"), find_accelerator("nvidia-h200"), Parallelism())
    assert (found.state, found.ok, found.message) == ("Unknown", True, "sizing off: nobody knows")


def test_the_advice_works() -> None:
    model, h100 = known("meta-llama/Llama-3.3-70B-Instruct"), find_accelerator("nvidia-h100")
    refused = fits(model, h100, Parallelism(tensor=2))
    longest = int(refused.message.split("contextLength to at most ")[1].split(",")[0])
    assert fits(model, h100, Parallelism(tensor=2), context_tokens=longest).state == "Fits"
    assert fits(model, h100, Parallelism(tensor=2), context_tokens=longest + 1).state != "Fits"
    assert fits(model, h100, Parallelism(tensor=4)).state == "Fits"


ORDER = {"DoesNotFit": 0, "Unknown": 1, "Fits": 2}


@given(
    weights=st.integers(1, 2 * 1024 * GIB),
    memory=st.integers(GIB, 400 * GIB),
    more=st.integers(0, 400 * GIB),
    context=st.integers(1, 2_000_000),
    tensor=st.sampled_from([1, 2, 4, 8]),
)
def test_more_memory_and_fewer_weights_never_make_it_worse(
    weights: int, memory: int, more: int, context: int, tensor: int
) -> None:
    def answer(weight_bytes: int, memory_bytes: int, context_tokens: int) -> int:
        model = replace(known("Qwen/Qwen3-32B"), weight_bytes=weight_bytes)
        device = replace(find_accelerator("nvidia-h200"), memory_bytes=memory_bytes)
        return ORDER[fits(model, device, Parallelism(tensor=tensor), context_tokens=context_tokens).state]

    base = answer(weights, memory, context)
    assert answer(weights, memory + more, context) >= base
    assert answer(weights + more, memory, context) <= base
    assert answer(weights, memory, max(1, context // 2)) >= base


def test_a_higher_utilization_can_make_the_difference() -> None:
    model, device = known("Qwen/Qwen3-32B"), find_accelerator("nvidia-h100")
    full = Memory(utilization=0.97)
    assert fits(model, device, Parallelism()).state == "Unknown"
    assert fits(model, device, Parallelism(), memory=full).state == "Fits"
