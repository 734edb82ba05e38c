"""api.quantities: Kubernetes' own examples, values by hand, round trips, refusals with the caller's path."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api import quantities
from agentic_serving.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        # "roughly the same value", https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
        ("128974848", 128_974_848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("128974848000m", 128_974_848),
        ("123Mi", 128_974_848),
        # quantity.go: "Mi" and friends are powers of 1024, "k" is lower case, fractions are rounded up
        ("100Gi", 100 * 1024**3),
        ("1k", 1000),
        ("1.5Gi", 3 * 2**29),
        ("0.5", 1),
        ("1n", 1),
        (".5Ki", 512),
        ("1.", 1),
        ("1E3", 1000),
        ("1E", 10**18),
        ("+7Ei", 7 * 2**60),
        ("0", 0),
    ],
    ids=str,
)
def test_bytes_agree_with_kubernetes(text: str, n_bytes: int) -> None:
    assert quantities.parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "millicpu"), [("2", 2000), ("500m", 500), ("0.1", 100), ("100u", 1), ("1k", 1_000_000)], ids=str
)
def test_cpu_is_in_thousandths(text: str, millicpu: int) -> None:
    assert quantities.parse_cpu(text) == millicpu


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h30m", 5400), ("5m", 300), ("250ms", 0.25), ("1s500ms", 1.5), ("0s", 0), ("99999h", 359_996_400)],
    ids=str,
)
def test_durations_agree_with_gep_2257(text: str, seconds: float) -> None:
    assert quantities.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0"), (100 * 1024**3, "100Gi"), (500 * 10**9, "500G"), (1, "1"), (1025, "1025"), (2**62, "4Ei")],
    ids=str,
)
def test_bytes_are_written_short(n_bytes: int, text: str) -> None:
    assert quantities.format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5400, "1h30m"), (0.25, "250ms"), (3661.5, "1h1m1s500ms")], ids=str
)
def test_durations_are_written_in_normal_form(seconds: float, text: str) -> None:
    assert quantities.format_duration(seconds) == text


@given(st.integers(0, 2**63 - 1))
def test_bytes_round_trip(n_bytes: int) -> None:
    assert quantities.parse_bytes(quantities.format_bytes(n_bytes)) == n_bytes


@given(st.integers(0, 10**9))
def test_cpu_round_trips(millicpu: int) -> None:
    assert quantities.parse_cpu(quantities.format_cpu(millicpu)) == millicpu


@given(st.integers(0, 99_999 * 3_600_000))
def test_durations_round_trip(milliseconds: int) -> None:
    text = quantities.format_duration(milliseconds / 1000)
    assert quantities.parse_duration(text) == milliseconds / 1000


@given(
    st.integers(0, 10**6), st.integers(0, 999), st.sampled_from([("", 0), ("Ki", 10), ("Mi", 20), ("Ti", 40)])
)
def test_fractions_are_rounded_up_exactly(whole: int, thousandths: int, unit: tuple[str, int]) -> None:
    suffix, shift = unit
    exact = (whole + Fraction(thousandths, 1000)) * 2**shift
    assert quantities.parse_bytes(f"{whole}.{thousandths:03d}{suffix}") == math.ceil(exact)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gi",
        "-1",
        "1 Gi",
        "1gi",
        "1GiB",
        "1K",
        "1e",
        "1e999",
        "1\n",
        "\u0661",
        "9" * 100,
        "8Ei",
        "1E19",
        "nan",
    ],
    ids=repr,
)
def test_what_is_no_amount_of_bytes_is_refused_by_path(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^spec\.x: "):
        quantities.parse_bytes(text, "spec.x")


@pytest.mark.parametrize(
    "text", ["", "5", "1.5h", "-5m", "5 m", "100000s", "1h1h1h1h1h", "5M", "\u0665s", "5m\n"], ids=repr
)
def test_what_is_no_duration_is_refused_by_path(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^spec\.x: .* is not a duration"):
        quantities.parse_duration(text, "spec.x")


@given(st.text(max_size=100))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (quantities.parse_bytes, quantities.parse_cpu, quantities.parse_duration):
        try:
            assert parse(text) >= 0
        except InvalidInput:
            continue


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (quantities.format_bytes, -1),
        (quantities.format_bytes, 2**63),
        (quantities.format_cpu, -1),
        (quantities.format_duration, -0.001),
        (quantities.format_duration, math.inf),
        (quantities.format_duration, math.nan),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_what_cannot_be_written_is_refused(write: Callable[[float], str], value: float) -> None:
    with pytest.raises(InvalidInput):
        write(value)
