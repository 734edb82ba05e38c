"""docs/checks.md, the tests that name a check, and the mutations that prove them: none may be without the others."""

import re
from pathlib import Path

import pytest

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
#: A test names its check in its docstring, its module's docstring or its own name.
NAMED = re.compile(r"\bcheck[ _](\d\d)\b|_check_(\d\d)_", re.IGNORECASE)
ROW = re.compile(r"^\| (\d\d) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
NUMBERS = [f"{n:02d}" for n in range(1, 23)]
ROWS = {number: (tests, bugs) for number, _, tests, bugs in ROW.findall(PAGE)}


def named_in(file: Path) -> set[str]:
    return {a or b for a, b in NAMED.findall(file.read_text(encoding="utf-8"))}


def test_every_check_has_a_row_and_nothing_else_has() -> None:
    assert list(ROWS) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_the_row_links_files_whose_tests_name_the_check(number: str) -> None:
    tests, _ = ROWS[number]
    linked = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", tests)}
    naming = {
        file
        for folder in ("unit", "e2e")
        for file in (ROOT / "tests" / folder).rglob("test_*.py")
        if file != Path(__file__) and number in named_in(file)
    }
    assert linked
    assert linked <= naming


@pytest.mark.parametrize("number", NUMBERS)
def test_the_row_tells_the_mutations_of_the_check(number: str) -> None:
    table = [mutation.what for mutation in MUTATIONS if f"{mutation.check:02d}" == number]
    assert table
    assert ROWS[number][1].split("; ") == table


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.check:02d}-{m.what}")
def test_a_mutation_has_one_place_and_tests_that_exist(mutation: Mutation) -> None:
    text = (ROOT / "operator" / "agentic_serving" / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.find) == 1
    assert mutation.replace != mutation.find
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")
