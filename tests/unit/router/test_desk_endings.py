"""What the desk makes of the ends of calls: outcome, tokens, what was computed again and why, sessions, runs and tasks."""

from typing import Any

import pytest

from agentic_serving.router import words
from agentic_serving.router.words import Declaration
from tests.unit.router.desking import Driver, chat, config, pod, text_of, turn

Said = list[tuple[str, str]]

R0, R1 = "10.0.0.1:8000", "10.0.0.2:8000"


def one(*, token_came: bool = True, status: int = 200, **usage: Any) -> words.Done:
    """A call of about 500 tokens from its arrival to its end."""
    d = Driver()
    d.arrive(turn("q", "a", 500))
    if token_came:
        d.first_token("q")
    d.closed("q")
    if usage:
        d.usage("q", **{"status": status, **usage})
    d.run_until(2.0)
    return d.done("q")


@pytest.mark.parametrize(
    ("given", "outcome", "estimated", "tokens"),
    [
        ({"prompt_tokens": 510, "cached_tokens": 100, "output_tokens": 7}, "Answered", False, (510, 100, 7)),
        ({"prompt_tokens": 510}, "Answered", False, (510, 0, 0)),
        ({"aborted": True}, "ClientLeft", True, (500, 0, 0)),
        ({}, "Answered", True, (500, 0, 0)),
        ({"token_came": False}, "ClientLeft", True, (500, 0, 0)),
        ({"token_came": False, "status": 0, "aborted": True}, "ClientLeft", True, (500, 0, 0)),
        ({"status": 503, "prompt_tokens": None}, "Failed", True, (500, 0, 0)),
        ({"status": 400, "prompt_tokens": None}, "Failed", True, (500, 0, 0)),
        ({"prompt_tokens": 510, "cached_tokens": 9_999}, "Answered", False, (510, 510, 0)),
    ],
    ids=[
        "told",
        "cached-not-told",
        "broken-off",
        "no-access-log",
        "left-before-a-token",
        "left-before-a-token-as-told",
        "no-engine",
        "refused-by-the-engine",
        "impossible",
    ],
)
def test_what_became_of_a_call(
    given: dict[str, Any], outcome: str, estimated: bool, tokens: tuple[int, int, int]
) -> None:
    done = one(**given)
    assert (done.outcome, done.estimated) == (outcome, estimated)
    assert (done.prompt_tokens, done.cached_tokens, done.output_tokens) == tokens


def test_an_answer_that_breaks_off_with_its_pod_has_failed() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 500))
    d.first_token("q")
    d.pods(pod("r1"))
    d.usage("q", aborted=True, endpoint=R0)
    assert d.done("q").outcome == "Failed"


def test_what_failed_leaves_nothing_in_the_cache() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 500))
    d.usage("q", status=503)
    assert d.desk.scheduler.ledger.where("default/a") == {}


def test_the_end_of_a_call_that_nobody_knows_is_ignored() -> None:
    d = Driver()
    d.first_token("q")
    d.closed("q")
    d.usage("q", prompt_tokens=10)
    assert d.ear.notes == []


def test_a_call_whose_end_is_never_told_is_given_up() -> None:
    d = Driver(config(request_timeout_s=100.0))
    d.arrive(turn("q", "a", 500))
    d.run_until(159.0)
    assert d.desk.live(d.now_s).in_flight == 1
    d.run_until(162.0)
    assert d.desk.live(d.now_s).in_flight == 0


# First tokens


def test_a_prompt_is_computed_when_the_first_token_comes() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 500))
    assert d.desk.scheduler._placing.replicas[d.ear.of(words.Decided, "q")[0].replica].prefills == 1
    d.first_token("q")
    assert d.desk.scheduler._placing.replicas[d.ear.of(words.Decided, "q")[0].replica].prefills == 0


def test_every_stream_begins_with_its_first_token_and_the_first_of_all_too() -> None:
    d = Driver()
    for call_id in ("q", "q2"):
        d.arrive(turn(call_id, "a", 50))
        assert d.ear.of(words.Began, call_id) == []
        d.first_token(call_id)
        assert len(d.ear.of(words.Began, call_id)) == 1


def test_the_first_token_of_an_answer_in_one_piece_is_supposed() -> None:
    d = Driver(n_pods=1)
    d.arrive(turn("q", "a", 50))
    d.first_token("q")
    d.arrive(turn("whole", "b", 300, stream=False))
    replica = d.desk.scheduler._placing.replicas["r0"]
    assert replica.prefills == 1
    d.run_until(300 / replica.tokens_per_s + 0.01)
    assert replica.prefills == 0


# Computed again


def told_again(prompt: Said, again: Said, where: str, cached: int) -> dict[words.Cause, int]:
    """What two turns of a session recompute, the second on `where`, with so many tokens of its prompt cached."""
    d = Driver()
    d.arrive(chat("q0", prompt, session="a"))
    d.end("q0", d.came("q0").prompt_tokens, endpoint=R0)
    d.arrive(chat("q1", again, session="a"))
    d.end("q1", d.came("q1").prompt_tokens, cached=cached, endpoint=where)
    return dict(d.done("q1").recomputed)


SAID = [("system", text_of(100, "s")), ("user", text_of(100, "u")), ("assistant", text_of(100, "v"))]
MORE = ("user", text_of(20, "w"))


@pytest.mark.parametrize(
    ("again", "where", "cached", "recomputed"),
    [
        ([*SAID, MORE], R0, 300, {}),
        ([*SAID, MORE], R0, 280, {}),
        ([*SAID, MORE], R0, 100, {"Evicted": 200}),
        ([*SAID, MORE], R1, 0, {"OtherReplica": 300}),
        ([SAID[0], ("user", text_of(100, "changed")), SAID[2], MORE], R0, 100, {"Edit": 200}),
        ([SAID[0], ("user", text_of(90, "summary"))], R0, 100, {"Compaction": 90}),
    ],
    ids=["none", "within-what-estimates-are-worth", "evicted", "elsewhere", "edit", "compaction"],
)
def test_why_tokens_are_computed_again(
    again: Said, where: str, cached: int, recomputed: dict[str, int]
) -> None:
    found = told_again(SAID, again, where, cached)
    assert found == {cause: pytest.approx(tokens, abs=5) for cause, tokens in recomputed.items()}


def test_a_child_that_comes_to_another_pod_computes_again_what_its_sibling_has() -> None:
    d = Driver()
    for i, where in enumerate((R0, R1)):
        said = [("system", text_of(200, "shared")), ("user", text_of(20, f"task{i}"))]
        d.arrive(chat(f"k{i}", said, session=f"k{i}", headers={"x-parent-session-id": "main"}))
        d.end(f"k{i}", 220, endpoint=where)
    assert d.done("k1").recomputed == {"OtherReplica": pytest.approx(200, abs=5)}


def test_what_engines_count_is_learned() -> None:
    d = Driver()
    d.arrive(turn("q0", "a", 500))
    d.end("q0", 1_000)
    d.arrive(turn("q1", "b", 500))
    assert d.came("q1").prompt_tokens == pytest.approx(1_000, rel=0.02)


def turns_of_one_session(d: Driver, n: int, cached_of_answer: float) -> list[words.Done]:
    """Answers of 200 tokens, of which the next prompt's engine finds so much; each tool says 50."""
    d.pods(pod("r0", capacity_tokens=100_000))
    said = [("system", text_of(100, "s")), ("user", text_of(50, "u"))]
    for i in range(n):
        d.arrive(chat(f"q{i}", said, session="a"))
        came = d.came(f"q{i}")
        found = came.reused_tokens + int(200 * cached_of_answer) if i else 0
        d.end(f"q{i}", came.prompt_tokens, cached=found, output=200)
        said += [("assistant", text_of(200, f"answer{i}")), ("tool", text_of(50, f"result{i}"))]
    return [d.done(f"q{i}") for i in range(n)]


@pytest.mark.parametrize("share", [1.0, 0.0], ids=["as-it-was", "written-otherwise"])
def test_an_answer_is_expected_in_the_cache_if_it_was_before(share: float) -> None:
    done = turns_of_one_session(Driver(), 8, share)[-1]
    assert done.expected_cached_tokens == pytest.approx(done.cached_tokens, abs=20)


def test_an_answer_that_goes_on_is_counted_once() -> None:
    d = Driver()
    done = turns_of_one_session(d, 3, 1.0)[-1]
    (replica,) = d.desk.live(d.now_s).replicas
    assert replica.held_tokens == pytest.approx(done.prompt_tokens + 200, abs=20)


# Sessions, runs, tasks


def test_gaps_between_turns_are_told_with_what_ended_them() -> None:
    d = Driver()
    d.arrive(chat("q0", [("user", "do it")], session="a"))
    d.end("q0", 10)
    d.now_s = 7.0
    d.arrive(chat("q1", [("user", "do it"), ("assistant", "ls"), ("tool", "files")], session="a"))
    d.end("q1", 10)
    d.now_s = 20.0
    d.arrive(chat("q2", [("user", "do it"), ("assistant", "ls"), ("user", "more")], session="a"))
    assert [(note.kind, note.gap_s) for note in d.ear.of(words.Closed)] == [("tool", 7.0), ("human", 13.0)]


def test_a_task_is_told_when_nothing_followed_for_a_minute() -> None:
    d = Driver()
    d.arrive(chat("q0", [("user", "do it")], session="a"))
    d.now_s = 4.0
    d.end("q0", 10)
    d.now_s = 6.0
    d.arrive(chat("q1", [("user", "do it"), ("assistant", "ls"), ("tool", "files")], session="a"))
    d.now_s = 9.0
    d.end("q1", 10)
    d.run_until(60.0)
    assert d.ear.of(words.TaskDone) == []
    d.run_until(70.5)
    (told,) = d.ear.of(words.TaskDone)
    assert (told.run, told.took_s, told.turns, told.held_s) == ("default/a", 9.0, 2, 0.0)


def test_a_task_is_told_when_the_next_one_begins_and_what_it_waited_is_not_its_own() -> None:
    d = Driver()
    for i in range(2):
        d.arrive(turn(f"b{i}", f"b{i}", 800))
        d.first_token(f"b{i}")
    d.arrive(turn("q0", "a", 500))
    assert d.held("q0")
    d.now_s = 30.0
    d.pods(pod("r0"), pod("r1"), pod("r2"))
    d.now_s = 40.0
    d.end("q0", 500)
    d.now_s = 50.0
    d.arrive(chat("q1", [("user", "something else")], session="a"))
    (told,) = d.ear.of(words.TaskDone)
    assert (told.took_s, told.held_s, told.alone_s) == (40.0, 30.0, 10.0)


def test_a_run_is_over_when_it_was_idle_for_its_programs_time() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 50))
    d.end("q", 50)
    d.run_until(1_799.0)
    assert len(d.desk.sessions) == 1
    d.run_until(1_802.0)
    (over,) = d.ear.of(words.Over)
    assert (over.session, over.run, over.why) == ("default/a", "default/a", "idle")
    assert (len(d.desk.sessions), d.desk.scheduler.ledger.where("default/a")) == (0, {})


def test_a_turn_that_takes_longer_than_the_idle_time_keeps_its_run() -> None:
    d = Driver(config(request_timeout_s=7_200.0))
    d.arrive(turn("q", "a", 50))
    d.run_until(4_000.0)
    assert len(d.desk.sessions) == 1


def test_the_last_turn_that_says_so_ends_the_run() -> None:
    d = Driver()
    final = {"x-dynamo-session-id": "a", "x-dynamo-session-final": "true"}
    d.arrive(chat("q", [("user", "bye")], headers=final))
    d.end("q", 10)
    assert [note.why for note in d.ear.of(words.Over)] == ["ended"]


def test_an_application_says_that_a_session_is_finished() -> None:
    d = Driver()
    told = Declaration(program="default", session="a", finished=True)
    assert not d.desk.declare(told, d.now_s)
    d.arrive(turn("q", "a", 50))
    d.end("q", 50)
    assert d.desk.declare(told, d.now_s)
    d.run_until(0.1)
    assert [note.why for note in d.ear.of(words.Over)] == ["ended"]


def test_a_run_that_ended_on_another_stack_is_over_here() -> None:
    d = Driver()
    d.arrive(turn("q", "a", 50))
    d.end("q", 50)
    d.take(d.desk.end_run("default/a", d.now_s))
    assert (len(d.desk.sessions), len(d.ear.of(words.Over))) == (0, 1)


def test_a_listener_that_fails_costs_no_call() -> None:
    d = Driver()
    seen: list[Exception] = []
    d.desk.on_error(seen.append)

    def fail(note: words.Note, now_s: float) -> None:
        raise ValueError("no")

    d.ear.hear = fail  # type: ignore[method-assign]
    d.arrive(turn("q", "a", 50))
    assert d.went("q")
    assert seen
