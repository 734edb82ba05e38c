"""program.policy: parameters of another size."""

from agentic_serving.program.policy import Policy


def test_a_policy_for_programs_of_another_size_keeps_its_proportions() -> None:
    usual, small = Policy(), Policy().scaled(1 / 16, tokens=1 / 32)
    assert small.return_within_s == usual.return_within_s / 16
    assert small.keep_s / small.overflow_queue_s == usual.keep_s / usual.overflow_queue_s
    assert small.small_tokens == usual.small_tokens / 32
    assert (small.warm_share, small.recompute_budget) == (usual.warm_share, usual.recompute_budget)
    assert usual.scaled(1.0) == usual
