"""api.conditions: times move only on a flip, order does not depend on history, no reason goes undocumented."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.api.base import Condition
from agentic_serving.api.conditions import (
    ConditionType,
    PolicyCondition,
    ProgramCondition,
    Reason,
    StackCondition,
    find_condition,
    is_true,
    same_status,
    set_condition,
)
from agentic_serving.api.stack import AgenticServingStackStatus, RoleStatus

START = datetime(2026, 1, 1, tzinfo=UTC)
PACKAGE = Path(__file__).parents[3] / "operator" / "agentic_serving"


def ready(
    status: str, *, minutes: int = 0, before: tuple[Condition, ...] = (), **more: str
) -> tuple[Condition, ...]:
    now = START + timedelta(minutes=minutes)
    return set_condition(
        before,
        type=StackCondition.READY,
        status=status,  # type: ignore[arg-type] # tests pass the three words as text
        reason=more.get("reason", "Ready"),
        message=more.get("message", ""),
        generation=minutes,
        now=now,
    )


def test_the_time_stays_while_the_status_stays() -> None:
    first = ready("True")
    second = ready("True", minutes=5, before=first, reason="Other", message="new")
    assert second[0].last_transition_time == "2026-01-01T00:00:00Z"
    assert (second[0].reason, second[0].message, second[0].observed_generation) == ("Other", "new", 5)


def test_the_time_moves_when_the_status_flips() -> None:
    assert ready("False", minutes=5, before=ready("True"))[0].last_transition_time == "2026-01-01T00:05:00Z"


def test_a_message_that_is_too_long_is_cut_and_says_so() -> None:
    (condition,) = ready("False", message="x" * 5000)
    assert len(condition.message) == 2048
    assert condition.message.endswith("x...")


@pytest.mark.parametrize(
    "kind", [StackCondition, ProgramCondition, PolicyCondition], ids=lambda k: k.__name__
)
@given(data=st.data())
def test_order_does_not_depend_on_history(kind: type[StackCondition], data: st.DataObject) -> None:
    def build(types: list[str]) -> list[str]:
        conditions: tuple[Condition, ...] = ()
        for t in types:
            conditions = set_condition(
                conditions, type=t, status="True", reason="Ready", generation=1, now=START
            )
        return [c.type for c in conditions]

    expected = [*map(str, kind), "Alien"]
    alien_last = build(data.draw(st.permutations(expected)))
    assert sorted(alien_last) == sorted(expected)
    assert [t for t in alien_last if t != "Alien"] == [*map(str, kind)]


def test_only_a_true_condition_of_this_generation_counts() -> None:
    conditions = ready("True", minutes=3)
    assert is_true(conditions, "Ready")
    assert is_true(conditions, "Ready", generation=3)
    assert not is_true(conditions, "Ready", generation=4)
    assert not is_true(ready("Unknown"), "Ready")
    assert not is_true((), "Ready")
    assert find_condition(conditions, "Stalled") is None


def status(**more: object) -> AgenticServingStackStatus:
    return AgenticServingStackStatus(observed_generation=1, **more)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (status(conditions=ready("True")), status(conditions=ready("True", minutes=0)), True),
        (status(conditions=ready("True")), status(conditions=ready("False")), False),
        (status(), {"observedGeneration": 1, "programs": {"attached": 0}, "conditions": []}, True),
        (status(endpoint="http://x"), status(), False),
        (
            status(roles=(RoleStatus(name="Decode"),)),
            status(roles=(RoleStatus(name="Decode", ready=1),)),
            False,
        ),
        (
            status(roles=(RoleStatus(name="Decode"), RoleStatus(name="Prefill"))),
            status(roles=(RoleStatus(name="Prefill"), RoleStatus(name="Decode"))),
            True,
        ),
    ],
    ids=["equal", "condition flipped", "empty fields", "field added", "count changed", "order"],
)
def test_statuses_are_compared_by_what_they_say(a: object, b: object, *, same: bool) -> None:
    assert same_status(a, b) is same  # type: ignore[arg-type] # models and mappings
    assert same_status(b, a) is same  # type: ignore[arg-type] # as above


def test_times_of_transition_do_not_make_a_difference() -> None:
    a = status(conditions=ready("True"))
    later = ready("True", before=ready("False", minutes=9))
    assert later[0].last_transition_time == "2026-01-01T00:00:00Z"
    moved = {
        **a.model_dump(by_alias=True),
        "conditions": [{**a.conditions[0].to_dict(), "lastTransitionTime": "x"}],
    }
    assert same_status(a, moved)


def test_the_order_of_keys_makes_no_difference() -> None:
    """Check 12 of docs/checks.md. The API server has its own order of keys; what is read back equals what was written."""
    # By type Accepted comes first, by status Ready does.
    written = {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Accepted", "status": "True"}]}
    read = {"conditions": [{"status": "False", "type": "Ready"}, {"status": "True", "type": "Accepted"}]}
    assert same_status(written, read)


def test_every_word_is_documented_and_legal() -> None:
    words: list[ConditionType | Reason] = [*StackCondition, *ProgramCondition, *PolicyCondition, *Reason]
    for member in words:
        assert member.doc.endswith("."), member
        assert member.isalpha(), member


def test_polarity_is_known_for_the_words_of_kstatus() -> None:
    for kind in (StackCondition, ProgramCondition, PolicyCondition):
        abnormal = {str(t) for t in kind if t.abnormal_true}
        assert {"Reconciling", "Stalled"} <= abnormal <= {"Reconciling", "Stalled", "Overlapping"}
        assert not kind.READY.abnormal_true


def reasons_in_code() -> list[tuple[str, str]]:
    """(file:line, word) of every literal reason handed to a finding or a condition."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name not in ("Finding", "Condition", "set_condition"):
                continue
            values = [k.value for k in node.keywords if k.arg == "reason"]
            values += [v for k in values if isinstance(k, ast.IfExp) for v in (k.body, k.orelse)]
            where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            found += [(where, str(v.value)) for v in values if isinstance(v, ast.Constant)]
    return found


def test_every_reason_in_the_code_is_documented() -> None:
    unknown = [(where, word) for where, word in reasons_in_code() if word not in set(Reason)]
    assert not unknown, "add these words to api/conditions.py"
