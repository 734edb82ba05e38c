"""api.regex: what passes and what does not; that the rest compiles is proved on the real Envoy (tests/e2e)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api.regex import why_refused


@pytest.mark.parametrize(
    "pattern",
    [
        "blue",
        "(?i)team-(red|blue)",
        r"^[A-Za-z0-9_.-]+$",
        r"v\d{1,3}\.\d+",
        "a{2,}?",
        r"[^\d\s]*",
        "(?:ab)?c+",
        "",
        "a|",
        "100%",
    ],
)
def test_ordinary_expressions_pass(pattern: str) -> None:
    assert why_refused(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)b", "may not take, at '(?=a)b'"),
        (r"(a)\1", r"may not take, at '\\1'"),
        ("(?P<n>a)", "may not take"),
        (r"\pL", "may not take"),
        (r"a\Z", "may not take"),
        ("a(?i)b", "may not take"),
        ("[a", "may not take"),
        ("[]a]", "may not take"),
        ("[[:alpha:]]", "may not take"),
        ("a{", "may not take"),
        ("a{,3}", "may not take"),
        ("[z-a]", "backwards"),
        ("*a", "repeats nothing"),
        ("a**", "repeats nothing"),
        ("a*+", "repeats nothing"),
        ("(|+)", "repeats nothing"),
        ("^*", "repeats nothing"),
        ("a{3,1}", "impossible"),
        ("(a", "without its closing"),
        ("a)", "without its opening"),
        ("(" * 40 + ")" * 40, "too deeply"),
        ("a{1001}", "too much"),
        ("(a{100}){100}", "too much"),
        ("." * 200 + "{30}", "too much"),
        ("caf\xe9", "printable"),
        ("a\n", "printable"),
    ],
)
def test_what_re2_might_refuse_is_named(pattern: str, why: str) -> None:
    assert why in (why_refused(pattern) or "")


@given(st.text(max_size=256))
def test_any_text_gets_an_answer(pattern: str) -> None:
    why = why_refused(pattern)
    assert why is None or why


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_a_quoted_text_passes(text: str) -> None:
    """Whoever escapes all punctuation is understood."""
    assert why_refused("".join(f"\\{c}" if not c.isalnum() and c != " " else c for c in text)) is None
