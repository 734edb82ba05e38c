"""From a call to a turn: whose it is, what its prompt is beside those before it, what was declared of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from agentic_serving.program.events import Turn
from agentic_serving.program.identity import Identity
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.session_types import Arrival
from agentic_serving.program.sessions import Sessions
from agentic_serving.router.attribution import Attributed, Rules
from agentic_serving.router.calls import Open
from agentic_serving.router.declared import declared_of
from agentic_serving.router.limits import Limits
from agentic_serving.router.prompts import Prompts, Reading
from agentic_serving.router.roster import Roster
from agentic_serving.router.words import Call, Came, Note

__all__ = ["Intake", "Taken"]

#: Of what a client says in words, so many characters are kept: 55 make a `traceparent`, and names of models are shorter.
_MAX_CHARS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A call as a turn. `notes`: to be told, in this order."""

    open: Open
    arrival: Arrival
    attributed: Attributed
    notes: tuple[Note, ...]


@dataclass(slots=True)
class Intake:
    """Reads calls into what is known."""

    sessions: Sessions
    prompts: Prompts
    roster: Roster
    scheduler: Scheduler
    limits: Limits

    def take(
        self, call: Call, body: Mapping[str, object] | None, identity: Identity, rules: Rules, now_s: float
    ) -> Taken:
        """`Sessions.finish` must follow once, for the session that it is of."""
        prompt = self.prompts.read(identity, body)
        chain = prompt.chains[-1] if len(prompt) else 0
        likely = self.prompts.likely(identity, prompt)
        arrival = self.sessions.arrive(identity, now_s, chain=chain, likely=likely)
        self.roster.join(arrival.joined, arrival.run, identity.program, now_s)
        self.prompts.joined(arrival.joined)
        reading = (
            self.prompts.observe(identity, arrival, prompt, now_s)
            if body is not None
            else self.prompts.unread(identity, arrival.session, _length(call))
        )
        human = body is not None and self._begins_task(identity, arrival)
        notes = tuple(self.roster.arrive(identity.program, arrival, now_s, human=human))
        came = _came(call, body, identity, arrival, reading)
        turn = self._turn(call, identity, arrival, reading, rules, now_s, human=human, read=body is not None)
        made = Open(
            turn=turn,
            reading=reading,
            chain=chain,
            n_bytes=len(call.body),
            streams=(body or {}).get("stream") is True,
            arrived_s=now_s,
            shared_pod=self._shared_pod(arrival, reading),
            came=came,
            read=body is not None,
        )
        attained = self.scheduler.service.attained(arrival.run)
        attributed = Attributed(identity=identity, came=came, turn=turn, attained_tokens=attained)
        return Taken(open=made, arrival=arrival, attributed=attributed, notes=(*notes, came))

    def _begins_task(self, identity: Identity, arrival: Arrival) -> bool:
        """A person's words to the run's root; not if the client says that they are of the task that it is at."""
        if arrival.kind != "human" or arrival.parent is not None or arrival.retry:
            return False
        hint, run = identity.hint("task"), self.roster.runs.get(arrival.run)
        return hint is None or run is None or not run.is_at(str(hint.value))

    def _turn(
        self,
        call: Call,
        identity: Identity,
        arrival: Arrival,
        reading: Reading,
        rules: Rules,
        now_s: float,
        *,
        human: bool,
        read: bool,
    ) -> Turn:
        session = self.roster.sessions.get(arrival.session)
        standing, said_s = (session.standing, session.said_s) if session is not None else (None, now_s)
        return Turn(
            id=call.id,
            program=identity.program,
            run=arrival.run,
            session=arrival.session,
            prompt_tokens=reading.prompt_tokens,
            shares=reading.shares,
            human=human,
            side=arrival.kind == "side",
            priority=rules.priority,
            max_hold_s=min(rules.max_hold_s, self._patience_s(identity)) if read else 0.0,
            declared=declared_of(identity, standing, now_s, said_s),
            fork=self._fork(identity, arrival) if read else 0,
        )

    def _fork(self, identity: Identity, arrival: Arrival) -> int:
        """What the call says itself is newer than what was said before."""
        said, standing = identity.hint("fork"), self.roster.fork(arrival)
        return standing if said is None or isinstance(said.value, str) else int(said.value)

    def _patience_s(self, identity: Identity) -> float:
        """A client that gives up while it waits here has waited for nothing."""
        hint = identity.hint("client-timeout-s")
        return inf if hint is None or isinstance(hint.value, str) else self.limits.client_share * hint.value

    def _shared_pod(self, arrival: Arrival, reading: Reading) -> str:
        session = self.roster.sessions.get(reading.base or arrival.session)
        return session.pod if session is not None else ""


def _came(
    call: Call, body: Mapping[str, object] | None, identity: Identity, arrival: Arrival, reading: Reading
) -> Came:
    model = (body or {}).get("model")
    return Came(
        call_id=call.id,
        program=identity.program,
        run=arrival.run,
        session=arrival.session,
        parent=arrival.parent,
        client=identity.client,
        api=identity.api,
        model=model[:_MAX_CHARS] if isinstance(model, str) else "",
        kind=arrival.kind,
        side=arrival.side,
        turn=arrival.turn,
        confidence=arrival.confidence,
        prompt_tokens=reading.prompt_tokens,
        new_tokens=reading.new,
        reused_tokens=reading.reused,
        divergence=reading.divergence or "",
        traceparent=call.headers.get("traceparent", "")[:_MAX_CHARS],
    )


def _length(call: Call) -> int:
    """Of the body, as its sender says; of what is not all here, more than came."""
    said = call.headers.get("content-length", "")
    return (
        max(len(call.body), int(said))
        if said.isascii() and said.isdigit() and len(said) < 12
        else len(call.body)
    )
