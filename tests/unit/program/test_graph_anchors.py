"""program.graph_anchors: a prefix that sessions share is found as long as one of them is there, and at its longest."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.graph_anchors import Anchors


class _Sessions:
    """Sessions by what they have, newest last, as the graph keeps them."""

    def __init__(self) -> None:
        self.having: dict[str, set[int]] = {}
        self.anchors = Anchors()

    def _holders(self, anchor: int) -> Iterator[str]:
        return (name for name, theirs in reversed(self.having.items()) if anchor in theirs)

    def set(self, name: str, theirs: set[int]) -> None:
        before = self.having.pop(name, set())
        self.having[name] = theirs
        self.anchors.drop(name, before - theirs, self._holders)
        self.anchors.add(name, theirs - before)

    def check(self) -> None:
        self.anchors.check(self.having)
        for anchor in set().union(*self.having.values()):
            assert self.anchors.owners(anchor)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sets(st.integers(0, 5), max_size=4)), max_size=60)
)
def test_whoever_leaves_what_others_have_is_found(steps: list[tuple[str, set[int]]]) -> None:
    sessions = _Sessions()
    for name, theirs in steps:
        sessions.set(name, theirs)
        sessions.check()


def test_of_many_only_four_are_named_the_last_first() -> None:
    sessions = _Sessions()
    for i in range(50):
        sessions.set(str(i), {7})
    assert sessions.anchors.owners(7) == ("49", "48", "47", "46")
    for i in range(49, 0, -1):
        sessions.set(str(i), set())
    assert sessions.anchors.owners(7) == ("0",)
