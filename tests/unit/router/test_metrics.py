"""router.metrics: each number by hand from a short story, bounded labels, names that Prometheus' conventions allow."""

import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentic_serving.program.events import CacheNews
from agentic_serving.router.config import Config
from agentic_serving.router.families import FAMILIES, Family
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.words import Decided
from tests.unit.router.story import CONFIG, Desk, Story, Turn, program

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    """What a scrape reads, our own prefix left out."""
    return {
        (s.name.removeprefix("agentic_serving_"), tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for s in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics).get((name, tuple(sorted(labels.items()))), 0.0)


def told(*turns: Turn, config: Config = CONFIG) -> Metrics:
    metrics = Metrics(config)
    story = Story([metrics])
    for turn in turns:
        story.turn(turn)
    return metrics


@pytest.mark.parametrize(
    ("turn", "name", "labels", "expected"),
    [
        (
            Turn(kind="tool"),
            "turns_total",
            {"program": "review", "client": "ClaudeCode", "kind": "tool", "outcome": "Answered"},
            1,
        ),
        (
            Turn(outcome="ClientLeft"),
            "turns_total",
            {"program": "review", "client": "ClaudeCode", "kind": "human", "outcome": "ClientLeft"},
            1,
        ),
        (Turn(api="chat", client="generic"), "calls_total", {"api": "chat", "client": "generic"}, 1),
        (
            Turn(hold_s=3, prefill_s=2),
            "turn_first_token_seconds_sum",
            {"program": "review", "kind": "human"},
            5,
        ),
        (Turn(hold_s=3), "turn_seconds_sum", {"program": "review", "kind": "human"}, 6),
        (Turn(hold_s=3), "hold_seconds_sum", {"program": "review", "reason": "WaitsForRoom"}, 3),
        (
            Turn(hold_s=3),
            "decisions_total",
            {"program": "review", "verdict": "Hold", "reason": "WaitsForRoom"},
            1,
        ),
        (
            Turn(hold_s=3),
            "decisions_total",
            {"program": "review", "verdict": "Admit", "reason": "PrefixIsThere"},
            1,
        ),
        (Turn(), "prompt_tokens_total", {"program": "review"}, 1000),
        (Turn(), "cached_tokens_total", {"program": "review"}, 800),
        (Turn(), "output_tokens_total", {"program": "review"}, 50),
        (Turn(outcome="Failed"), "prompt_tokens_total", {"program": "review"}, 0),
        (
            Turn(recomputed={"Evicted": 120}),
            "recomputed_tokens_total",
            {"program": "review", "cause": "Evicted"},
            120,
        ),
        (Turn(expected=900), "expected_cached_tokens_total", {"program": "review"}, 900),
        (Turn(expected=900), "reuse_prediction_error_ratio_sum", {"program": "review"}, 0.1),
        (Turn(expected=0, cached=300), "reuse_prediction_error_ratio_sum", {"program": "review"}, 0.3),
        (Turn(estimated=True), "usage_estimated_total", {"program": "review"}, 1),
        (Turn(estimated=True), "reuse_prediction_error_ratio_count", {"program": "review"}, 0),
        (Turn(), "placements_total", {"result": "asked"}, 1),
        (Turn(replica="chat-1"), "placements_total", {"result": "elsewhere"}, 1),
        (Turn(asked=""), "placements_total", {"result": "picker"}, 1),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_turn_is_counted(turn: Turn, name: str, labels: dict[str, str], expected: float) -> None:
    assert value(told(turn), name, **labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "prefill_s", "met", "missed"),
    [("tool", 4.0, 1, 0), ("tool", 6.0, 0, 1), ("human", 6.0, 0, 0)],
)
def test_the_first_token_objective_is_about_turns_after_tools(
    kind: str, prefill_s: float, met: int, missed: int
) -> None:
    metrics = told(Turn(kind=kind, prefill_s=prefill_s))  # type: ignore[arg-type]
    found = [
        value(
            metrics, "objective_results_total", program="review", objective="first_token_after_tool", result=r
        )
        for r in ("met", "missed")
    ]
    assert found == [met, missed]


def test_tasks_tell_completion_slowdown_and_the_objective() -> None:
    metrics = Metrics(CONFIG)
    story = Story([metrics])
    for took_s in (30.0, 60.0, 90.0):
        story.task(took_s, alone_s=15.0)
    assert value(metrics, "task_completion_seconds_sum", program="review") == 180
    assert value(metrics, "task_completion_seconds_bucket", program="review", le="60.0") == 2
    assert value(metrics, "task_slowdown_ratio_sum", program="review") == 12
    results = {
        r: value(metrics, "objective_results_total", program="review", objective="completion", result=r)
        for r in ("met", "missed")
    }
    assert results == {"met": 2, "missed": 1}
    assert value(metrics, "objective_ratio", program="review", objective="completion") == 0.95


def test_only_a_run_that_is_over_completes_a_run() -> None:
    """A child that ends is no run; where the objective is about runs, tasks do not count towards it."""
    runs = replace(program("review", completion_s=60.0), unit="Run")
    metrics = Metrics(replace(CONFIG, programs=(runs,)))
    story = Story([metrics])
    story.over("review/r1", 10.0, session="review/r1/child")
    story.task(10.0)
    story.over("review/r1", 90.0)
    assert value(metrics, "run_completion_seconds_count", program="review") == 1
    labels = {"program": "review", "objective": "completion"}
    assert value(metrics, "objective_results_total", result="missed", **labels) == 1
    assert value(metrics, "objective_results_total", result="met", **labels) == 0


def test_a_client_that_leaves_while_it_is_held_was_held() -> None:
    metrics = Metrics(CONFIG)
    story = Story([metrics])
    call = story.come(Turn(hold_s=9))
    story.now_s += 4
    story.end(call, Turn(outcome="ClientLeft"))
    assert value(metrics, "hold_seconds_sum", program="review", reason="WaitsForRoom") == 4


def test_observing_holds_nothing() -> None:
    metrics = told(Turn(hold_s=3, reason="Observing"))
    assert value(metrics, "hold_seconds_count", program="review", reason="WaitsForRoom") == 0
    assert value(metrics, "decisions_total", program="review", verdict="Hold", reason="WaitsForRoom") == 1


def test_series_of_an_objective_begin_at_zero_so_that_its_first_miss_counts() -> None:
    found = samples(Metrics(CONFIG))
    labels = (("objective", "completion"), ("program", "review"), ("result", "missed"))
    assert found["objective_results_total", labels] == 0


def test_a_new_configuration_replaces_objectives() -> None:
    metrics = Metrics(CONFIG)
    metrics.configure(replace(CONFIG, programs=(program("review", completion_s=10.0),)))
    Story([metrics]).task(30.0)
    assert value(metrics, "objective_seconds", program="review", objective="completion") == 10
    missed = value(
        metrics, "objective_results_total", program="review", objective="completion", result="missed"
    )
    assert missed == 1


def test_replicas_have_series_while_they_are_there() -> None:
    metrics = Metrics(CONFIG)
    desk = Desk.with_replicas("chat-0", "chat-1")
    metrics.view(desk)
    assert value(metrics, "replica_needed_tokens", replica="chat-1") == 40_000
    assert value(metrics, "held_bytes") == 4096
    desk.shown = Desk.with_replicas("chat-0").shown
    replicas = {dict(labels).get("replica") for _, labels in samples(metrics)}
    assert replicas == {None, "chat-0"}


def test_labels_are_bounded_whatever_comes() -> None:
    metrics = Metrics(CONFIG)
    story = Story([metrics])
    for n in range(200):
        story.turn(
            Turn(program=f"p{n}", client=f"c{n}", api=f"a{n}", hold_s=1, hold=f"why{n}", reason=f"r{n}")
        )
    for n in range(200):
        metrics.error(f"part{n}")
    found = samples(metrics)
    values: dict[str, set[str]] = {}
    for _, labels in found:
        for name, label in labels:
            values.setdefault(name, set()).add(label)
    assert len(values["program"]) == 64  # and triage, which had no turn: 64 names, and `other`
    assert {"review", "other"} <= values["program"]
    assert {k: values[k] for k in ("client", "api", "part")} == {
        "client": {"other"},
        "api": {"other"},
        "part": {"other"},
    }
    assert values["reason"] == {"other"}


def test_calls_that_nobody_attributed_do_no_harm() -> None:
    metrics = Metrics(CONFIG)
    story = Story([metrics])
    story.tell(Decided(call_id="x", verdict="Admit", reason="NotParsed"))
    story.go("x", Turn())
    story.end("x", Turn())
    assert value(metrics, "bodies_not_parsed_total") == 1
    assert value(metrics, "turns_total") == 0


def test_news_of_caches_are_counted() -> None:
    metrics = Metrics(CONFIG)
    news = [
        CacheNews(replica="chat-0", stored_tokens=300, removed_tokens=100, gap=True),
        CacheNews(replica="chat-1", stored_tokens=30, cleared=True),
    ]
    metrics.caches(news, read=7, unreadable=2, others_tokens=50)
    batches = {
        one: value(metrics, "kv_event_batches_total", result=one) for one in ("read", "unreadable", "gap")
    }
    assert batches == {"read": 7, "unreadable": 2, "gap": 1}
    tokens = {
        one: value(metrics, "kv_event_tokens_total", event=one) for one in ("stored", "removed", "others")
    }
    assert tokens == {"stored": 330, "removed": 100, "others": 50}
    assert value(metrics, "kv_event_clears_total") == 1


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_names_follow_prometheus_conventions(family: Family) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
    assert family.name.endswith("_total") == (family.type == "counter")
    assert not re.search(r"_(ms|minutes|kb|mib|percent)(_|$)", family.name)
    assert "le" not in family.labels
    assert family.help.endswith(".")


def test_every_family_is_exposed_under_its_name() -> None:
    """Reads a scrape with everything in it: what is documented is there, and nothing else of ours."""
    metrics = Metrics(CONFIG)
    metrics.view(Desk.with_replicas("chat-0"))
    exposed = {
        f.name for f in text_string_to_metric_families(metrics.exposition().decode()) if "agentic" in f.name
    }
    assert exposed == {f.full_name.removesuffix("_total") for f in FAMILIES}
