"""fleet.profile, profiles, fit: the formula, the names, the order of magnitude, and a fit that finds it again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.fit import Sample, fit
from agentic_serving.fleet.profile import StepProfile, parse_profile
from agentic_serving.fleet.profiles import ACTIVE_PARAMETERS, NAMED, find_profile

TRUE = StepProfile(
    name="true",
    source="test",
    base_s=0.004,
    prefill_token_s=6e-5,
    attention_s=3e-9,
    sequence_s=2e-4,
    context_token_s=5e-8,
)


def samples(profile: StepProfile, *, count: int = 60, noise: float = 0.0) -> list[Sample]:
    rng = random.Random(7)
    found = []
    for _ in range(count):
        prefill, decodes = rng.choice((0, rng.randrange(1, 8000))), rng.randrange(0, 30)
        pairs = prefill * rng.randrange(1, 50_000)
        context = decodes * rng.randrange(100, 60_000)
        seconds = profile.step_s(prefill, pairs, decodes, context) * rng.uniform(1 - noise, 1 + noise)
        found.append(
            Sample(
                seconds=seconds,
                prefill_tokens=prefill,
                attention_pairs=pairs,
                sequences=decodes,
                context_tokens=context,
            )
        )
    return found


def test_a_fit_finds_the_constants_of_exact_samples() -> None:
    found = fit("found", "test", samples(TRUE))
    for name in ("base_s", "prefill_token_s", "attention_s", "sequence_s", "context_token_s"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-6), name


def test_a_fit_of_noisy_samples_predicts_within_the_noise() -> None:
    found = fit("found", "test", samples(TRUE, noise=0.1, count=200))
    assert found.step_s(4000, 8_000_000, 8, 80_000) == pytest.approx(
        TRUE.step_s(4000, 8_000_000, 8, 80_000), rel=0.05
    )


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 9000), st.integers(0, 20)), min_size=3, max_size=20)
)
def test_no_fitted_constant_is_negative(measured: list[tuple[float, int, int]]) -> None:
    try:
        found = fit(
            "found", "test", [Sample(seconds=s, prefill_tokens=p, sequences=d) for s, p, d in measured]
        )
    except InvalidInput:
        return
    assert found.prefill_token_s >= 0
    assert found.sequence_s >= 0


@pytest.mark.parametrize("measured", [[], [Sample(seconds=0.0)], [Sample(seconds=1, sequences=2)] * 3])
def test_samples_that_say_too_little_are_refused(measured: list[Sample]) -> None:
    with pytest.raises(InvalidInput, match="samples"):
        fit("found", "test", measured)


def test_a_prompt_s_time_is_the_sum_of_its_chunks() -> None:
    chunks = TRUE.step_s(8192, 8192 * 8193 // 2, 0, 0) + TRUE.step_s(
        1808, 1808 * 8192 + 1808 * 1809 // 2, 0, 0
    )
    assert TRUE.prompt_s(10_000) == pytest.approx(chunks)
    assert TRUE.prompt_s(10_000, cached=9_999) == pytest.approx(TRUE.step_s(1, 10_000, 0, 0))


def test_scaling_scales_every_step() -> None:
    assert TRUE.scaled(0.25).step_s(100, 5000, 3, 900) == pytest.approx(TRUE.step_s(100, 5000, 3, 900) / 4)


@pytest.mark.parametrize("name", NAMED)
def test_named_profiles_say_where_they_come_from(name: str) -> None:
    assert find_profile(name).source.startswith(("assumed:", "measured:"))


@pytest.mark.parametrize(
    ("name", "prefill_tokens_per_s", "step_ms"),
    [  # at 8,000 tokens of prompt; one request that decodes at 8,000 tokens of context
        ("meta-llama/Llama-3.1-8B-Instruct@nvidia-h100", (20_000, 45_000), (6, 11)),
        ("meta-llama/Llama-3.3-70B-Instruct@nvidia-h200/4", (8_000, 22_000), (9, 20)),
        ("openai/gpt-oss-120b@nvidia-h100/2", (40_000, 130_000), (2, 6)),
    ],
)
def test_derived_profiles_have_the_size_of_published_measurements(
    name: str, prefill_tokens_per_s: tuple[float, float], step_ms: tuple[float, float]
) -> None:
    profile = find_profile(name)
    assert prefill_tokens_per_s[0] < 8000 / profile.prompt_s(8000) < prefill_tokens_per_s[1]
    assert step_ms[0] < 1000 * profile.step_s(0, 0, 1, 8000) < step_ms[1]


@pytest.mark.parametrize("name", ACTIVE_PARAMETERS)
def test_mixtures_of_experts_use_fewer_parameters_than_they_have(name: str) -> None:
    one = find_profile(f"{name}@nvidia-h200/8")
    assert 0 < ACTIVE_PARAMETERS[name].active < ACTIVE_PARAMETERS[name].total
    assert one.step_s(0, 0, 32, 0) > 1.5 * one.step_s(0, 0, 1, 0), "a batch reads more experts"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast", "there is no 'fast'; use one of sketch"),
        ("gpt-7@nvidia-h100", "there is no model 'gpt-7'"),
        ("openai/gpt-oss-20b@nvidia-h9", "there is no preset 'nvidia-h9'"),
        ("openai/gpt-oss-20b@nvidia-h100/x", "'x' in .* must be a number of devices"),
        ("openai/gpt-oss-20b@cpu", "cpu has no bf16FlopsPerS"),
        ("tiny@nvidia-h100", "has no weightBytes"),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        find_profile(name)


def test_a_profile_can_come_from_a_file() -> None:
    data = {"name": "mine", "source": "measured", "base_s": 1, "prefill_token_s": 0.5}
    assert parse_profile(data) == StepProfile(name="mine", source="measured", base_s=1.0, prefill_token_s=0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"base_s": 1, "prefil_token_s": 2}, "unknown keys prefil_token_s"),
        ({"base_s": "1"}, "profile.base_s: must be a number"),
        ({"prefill_token_s": 1}, "base_s: must be positive"),
        ({"base_s": 1, "sequence_s": -1}, "sequence_s: must not be negative"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_what_is_wrong(data: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_profile(data)
