"""Sessions as trees: who started whom, which run that makes, who was seen last.

Sessions come in any order: a parent that has not been seen is a place kept for it. A parent is learned once; what a child says of
its parent's run holds until the parent speaks for itself. Nothing that is sent can make a cycle or a tree deeper than MAX_DEPTH.

Kept true: a session was seen at least as recently as its descendants, so whoever was seen longest ago has none. That makes
eviction and expiry a step each.
"""

from collections import OrderedDict
from collections.abc import Iterator

from agentic_serving.errors import Bug

__all__ = ["MAX_DEPTH", "Node", "Totals", "Tree"]

#: Generations below the root. Claude Code and OpenCode were seen with one, and their nested agents with two; a step up costs about 0.1 us.
MAX_DEPTH = 32


class Totals:
    """What a run has come to; kept by its root. Tokens are those that were computed, not those that were cached."""

    __slots__ = ("attained_tokens", "in_flight", "sessions", "started_s", "task_tokens", "tasks", "turns")

    def __init__(self, now_s: float) -> None:
        self.started_s = now_s
        self.sessions = 1
        self.turns = 0
        self.tasks = 0
        self.in_flight = 0
        self.attained_tokens = 0
        self.task_tokens = 0

    def add(self, other: "Totals") -> None:
        self.started_s = min(self.started_s, other.started_s)
        self.sessions += other.sessions
        self.turns += other.turns
        self.tasks += other.tasks
        self.in_flight += other.in_flight
        self.attained_tokens += other.attained_tokens
        self.task_tokens += other.task_tokens


class Node:
    """A session, or the place of one that others name."""

    __slots__ = (
        "attained_tokens",
        "chain",
        "children",
        "final",
        "height",
        "in_flight",
        "name",
        "own",
        "parent",
        "seen",
        "seen_s",
        "tools",
        "totals",
        "turns",
    )

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.parent: Node | None = None
        self.children: set[Node] | None = None  # most have none: a set each would be a third of the memory
        self.own = False  # it named its parent itself
        self.height = 0  # at least the generations below
        self.seen = False
        self.seen_s = now_s
        self.totals: Totals | None = Totals(now_s)  # of roots only
        self.turns = 0
        self.in_flight = 0
        self.chain = 0  # of its last turn's prompt
        self.attained_tokens = 0
        self.tools = False  # it has offered any
        self.final = False

    def upwards(self) -> "Iterator[Node]":
        """Itself, its parent, and so on to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def root(self) -> "Node":
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def run(self) -> Totals:
        """Of the run that it belongs to."""
        totals = self.root().totals
        if totals is None:
            raise Bug(f"the run of {self.name} has no totals")
        return totals


class Tree:
    """All trees. `refused`: links that would have made a cycle, too deep a tree, or one run of two."""

    def __init__(self) -> None:
        self.nodes: OrderedDict[str, Node] = OrderedDict()  # the one seen longest ago first
        self.refused = 0

    def ensure(self, name: str, now_s: float) -> Node:
        """The node of that name, made where there is none."""
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = Node(name, now_s)
        return node

    def link(self, child: Node, parent: Node, *, own: bool) -> str | None:
        """Make a parent known; what it changes nothing for is refused. Returns the run that became part of the parent's, if any.

        Args:
            own: the child itself says so, not a child of it. Others are believed only until it comes.
        """
        if child.parent is parent:
            child.own = child.own or own
            return None
        above = list(parent.upwards())
        if (
            child in above
            or len(above) + child.height > MAX_DEPTH
            or not _may_move(child, above[-1], own=own)
        ):
            self.refused += own
            return None
        totals = child.totals
        self._unhang(child)
        child.parent, child.own, child.totals = parent, own, None
        parent.children = parent.children or set()
        parent.children.add(child)
        for height, node in enumerate(above, child.height + 1):
            node.height = max(node.height, height)
        if totals is None:
            return None
        parent.run().add(totals)
        return child.name

    def touch(self, node: Node, now_s: float) -> None:
        """It was seen now, and so were all above it."""
        for seen in node.upwards():
            seen.seen_s = now_s
            self.nodes.move_to_end(seen.name)

    def oldest(self) -> Node | None:
        """Seen longest ago; it has no children."""
        return self.nodes[next(iter(self.nodes))] if self.nodes else None

    def remove(self, node: Node) -> None:
        """A node without children leaves; its run keeps what it has come to."""
        if node.children:
            raise Bug(f"{node.name} has children")
        if node.parent is not None:
            run = node.run()
            run.sessions -= 1
            run.in_flight -= node.in_flight
        self._unhang(node)
        del self.nodes[node.name]

    def below(self, node: Node) -> list[Node]:
        """The node and all its descendants, children before parents."""
        found = [node]
        for one in found:  # grows while it is read
            found.extend(one.children or ())
        return found[::-1]

    def _unhang(self, node: Node) -> None:
        if node.parent is not None and node.parent.children is not None:
            node.parent.children.discard(node)
            node.parent.children = node.parent.children or None

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        places = {name: i for i, name in enumerate(self.nodes)}
        sizes: dict[Node, list[Node]] = {}
        for name, node in self.nodes.items():
            above = list(node.upwards())
            if len(above) - 1 > MAX_DEPTH:
                raise Bug(f"{name} is too deep")
            if any(places.get(one.name, -1) < places[name] for one in above):
                raise Bug(f"{name} was seen after one above it, or that one is gone")
            if node.parent is not None and node not in (node.parent.children or ()):
                raise Bug(f"{name} is not among its parent's children")
            if any(child.parent is not node or child.height >= node.height for child in node.children or ()):
                raise Bug(f"{name} has a child of another, or one as high as itself")
            if (node.totals is None) != (node.parent is not None):
                raise Bug(f"{name}: totals are kept by roots, and by all of them")
            sizes.setdefault(above[-1], []).append(node)
        for root, members in sizes.items():
            run = root.run()
            if run.sessions != len(members) or run.in_flight != sum(node.in_flight for node in members):
                raise Bug(f"the run {root.name} is not the sum of its sessions")
        seen = [node.seen_s for node in self.nodes.values()]
        if seen != sorted(seen):
            raise Bug("sessions are not in the order in which they were seen")


def _may_move(child: Node, root: Node, *, own: bool) -> bool:
    """A parent is learned once; what others said of it may be made more exact, within the run."""
    if not own:
        return child.parent is None and not child.seen
    return child.parent is None or (not child.own and child.root() is root)
