"""router.state.shared: what stacks of one pipeline know of a run's service."""

from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.scheduler import Scheduler
from agentic_serving.router.state.shared import Part, SharedService


def _exchange(*stacks: SharedService) -> None:
    """Each hears what the others changed."""
    for i, one in enumerate(stacks):
        for part in one.changes(1000):
            for j, other in enumerate(stacks):
                if i != j:
                    other.heard(f"stack-{i}", part)


def test_an_empty_one_is_what_the_scheduler_uses() -> None:
    """It is false, as anything empty; `or` would have made another."""
    service = SharedService()
    assert Scheduler(service=service).service is service


def test_a_runs_service_is_that_of_all_stacks() -> None:
    one, other = SharedService(), SharedService()
    one.begin_task("run", 10.0)
    one.charge("run", 100, 11.0)
    other.charge("run", 30, 12.0)
    assert (one.attained("run"), other.attained("run")) == (100, 30)  # at once, what each knows itself
    _exchange(one, other)
    assert (one.attained("run"), other.attained("run")) == (130, 130)


def test_a_new_task_begins_at_nothing_everywhere() -> None:
    one, other = SharedService(), SharedService()
    one.begin_task("run", 10.0)
    other.charge("run", 30, 12.0)
    _exchange(one, other)
    one.begin_task("run", 60.0)
    assert one.attained("run") == 0
    _exchange(one, other)
    assert other.attained("run") == 0
    other.charge("run", 5, 61.0)
    _exchange(one, other)
    assert (one.attained("run"), other.attained("run")) == (5, 5)


def test_what_an_earlier_stage_wrote_begins_no_task() -> None:
    """Planner, writer, planner, writer: each message to the writer looks like a person's words."""
    planner, writer = SharedService(), SharedService()
    for goal in range(3):
        planner.begin_task("run", 100.0 * goal + 10)
        assert planner.attained("run") == 0
        for step in range(2):
            planner.charge("run", 1000, 100.0 * goal + 20 + 10 * step)
            _exchange(planner, writer)
            writer.begin_task("run", 100.0 * goal + 25 + 10 * step)
            writer.charge("run", 10, 100.0 * goal + 26 + 10 * step)
            _exchange(planner, writer)
            assert planner.attained("run") == writer.attained("run") == 1010 * (step + 1)


def test_a_person_who_turns_to_another_stack_begins_tasks_there() -> None:
    """From the second message on: the first may be what the other stack wrote."""
    one, other = SharedService(), SharedService()
    one.begin_task("run", 10.0)
    one.charge("run", 1000, 11.0)
    _exchange(one, other)
    other.begin_task("run", 20.0)
    assert other.attained("run") == 1000
    for now_s in (30.0, 40.0):
        other.charge("run", 50, now_s - 1)
        other.begin_task("run", now_s)
        _exchange(one, other)
        assert one.attained("run") == other.attained("run") == 0


def test_what_is_heard_late_of_an_earlier_task_is_not_counted() -> None:
    one, other = SharedService(), SharedService()
    one.begin_task("run", 10.0)
    _exchange(one, other)
    other.charge("run", 30, 11.0)
    late = other.changes(10)
    one.begin_task("run", 60.0)
    for part in late:
        one.heard("stack-1", part)
    assert one.attained("run") == 0


def test_clocks_of_processes_differ_and_the_wall_clock_counts() -> None:
    one, other = SharedService(), SharedService()
    one.offset_s, other.offset_s = 1_000_000.0, 1_000_500.0  # `other` was started 500 s later
    one.begin_task("run", 600.0)
    other.begin_task("run", 40.0)  # 60 s before
    other.charge("run", 9, 41.0)
    _exchange(one, other)
    assert (one.attained("run"), other.attained("run")) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["charge", "tell", "tell twice", "lose"]), st.integers(1, 50)
        ),
        max_size=40,
    )
)
def test_lost_and_repeated_news_change_nothing_in_the_end(steps: list[tuple[int, str, int]]) -> None:
    stacks = [SharedService() for _ in range(3)]
    stacks[0].begin_task("run", 10.0)
    _exchange(*stacks)
    total = 0
    for i, what, tokens in steps:
        if what == "charge":
            stacks[i].charge("run", tokens, 1.0)
            total += tokens
            continue
        for part in stacks[i].changes(10):
            for j, other in enumerate(stacks):
                for _ in range({"tell": 1, "tell twice": 2, "lose": 0}[what] if j != i else 0):
                    other.heard(f"stack-{i}", part)
    for one in stacks:
        one.charge("run", 1, 2.0)  # the next news of each says all that it has
    _exchange(*stacks)
    assert [one.attained("run") for one in stacks] == [total + 3] * 3


def test_news_that_could_not_be_told_are_told_next() -> None:
    service = SharedService()
    service.charge("a", 1, 0.0)
    taken = service.changes(10)
    service.charge("b", 2, 0.0)
    service.charge("a", 4, 0.0)
    service.give_back(taken)
    assert service.changes(10) == [Part("a", 0.0, 5), Part("b", 0.0, 2)]


def test_it_is_bounded() -> None:
    service = SharedService(max_runs=10)
    for i in range(100):
        service.charge(f"run-{i}", 1, 0.0)
        service.heard("other", Part(f"else-{i}", 1.0, 1))
        for j in range(100):
            service.heard(f"stack-{j}", Part("run", 1.0, 1))
    assert len(service) <= 10
    assert len(service.changes(1000)) <= 10
    assert len(service.others("run")) <= 16
