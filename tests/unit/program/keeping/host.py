"""A small host of the scheduler: a registry, a graph a run and prompts that grow, on a clock of its own."""

from agentic_serving.errors import Bug
from agentic_serving.program import events as ev
from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.hashing import chained, content_hash
from agentic_serving.program.identity import Identity
from agentic_serving.program.keeping.kept import World
from agentic_serving.program.normalise import Part
from agentic_serving.program.prompt import Prompt
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.sessions import Sessions

PROGRAM = "agents"


def name(session: str) -> str:
    return f"{PROGRAM}/{session}"


def prompt(pieces: list[tuple[str, int]]) -> Prompt:
    """Blocks of so many tokens; blocks of one text are equal. The first is the system prompt."""
    made = Prompt()
    chain = 0
    for i, (text, tokens) in enumerate(pieces):
        content = content_hash("Turn", f"{text} {tokens}".encode())
        chain = chained(chain, content)
        part = Part("System", "", b"") if i == 0 else Part("Turn", "user", b"")
        made.append(part, content, chain, tokens)
    return made


def _identity(session: str, parent: str | None, *, human: bool) -> Identity:
    return Identity(
        program=PROGRAM,
        client="generic",
        api="chat",
        session=name(session),
        parent=name(parent) if parent is not None else None,
        kind="human" if human else "tool",
        confidence=0.8,
    )


class Host:
    def __init__(self, replicas: dict[str, int]) -> None:
        self.scheduler = Scheduler()
        self.sessions = Sessions()
        self.graphs: dict[str, SessionGraph] = {}
        self.rates: dict[str, TokenRate] = {PROGRAM: TokenRate()}
        self.world = World(
            scheduler=self.scheduler,
            sessions=self.sessions,
            graph=self.graphs.get,
            make_graph=lambda run: self.graphs.setdefault(run, SessionGraph()),
            rates=self.rates,
        )
        self._n = 0
        for one, capacity in replicas.items():
            self.scheduler.handle(ev.ReplicaSeen(name=one, capacity_tokens=capacity), 0.0)

    def arrive(
        self, session: str, blocks: Prompt, now_s: float, *, parent: str | None = None, human: bool = False
    ) -> tuple[str, list[ev.Instruction]]:
        """A turn; its id, and what the scheduler said."""
        self._n += 1
        identity = _identity(session, parent, human=human)
        arrival = self.sessions.arrive(identity, now_s, chain=blocks.chains[-1])
        graph = self.world.make_graph(arrival.run)
        delta = graph.observe(arrival.session, blocks, now_s, parent=arrival.parent)
        shares = (ev.Share(delta.base, delta.reused),) if delta.base else ()
        turn = ev.Turn(
            id=f"turn-{self._n}",
            program=PROGRAM,
            run=arrival.run,
            session=arrival.session,
            prompt_tokens=blocks.n_bytes,
            shares=shares,
            human=human and arrival.parent is None,
        )
        return turn.id, self.scheduler.handle(ev.Arrived(turn), now_s)

    def end(self, turn_id: str, session: str, tokens: int, now_s: float) -> list[ev.Instruction]:
        told = self.scheduler.handle(ev.FirstToken(turn_id), now_s)
        ended = ev.Ended(turn_id=turn_id, prompt_tokens=tokens, output_tokens=100)
        told += self.scheduler.handle(ended, now_s)
        self.sessions.finish(name(session), now_s, computed_tokens=tokens)
        return told

    def check(self) -> None:
        self.scheduler.check()
        self.sessions.check()
        for graph in self.graphs.values():
            graph.check()


def serve(host: Host, session: str, blocks: Prompt, now_s: float, **said: object) -> None:
    """A whole turn at one moment."""
    turn_id, told = host.arrive(session, blocks, now_s, **said)  # type: ignore[arg-type]  # passed on
    if not any(isinstance(one, ev.Admit) and one.turn_id == turn_id for one in told):
        raise Bug("a turn of this test waits")
    host.end(turn_id, session, blocks.n_bytes, now_s)
