"""One program as its client lives it: sessions side by side, turns one after another, waits and gaps as recorded."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentic_serving.clock import Clock
from agentic_serving.replay.bodies import Api, BodyOptions, body, side_request
from agentic_serving.replay.clients import CLIENT_APIS, Client, Identity, headers
from agentic_serving.replay.conversation import Conversation, SessionText
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import OnEvent, TurnEnded, TurnRecord, TurnStarted
from agentic_serving.replay.text import Scale
from agentic_serving.replay.transport import Transport
from agentic_serving.workload import Program, Session, Turn, TurnId, tasks

__all__ = ["Lap", "run_program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """A program to be replayed, and with what.

    Attributes:
        number: how often it was replayed before: a new lap has new session ids and new words.
        start_s: the clock when the replay began.
        stop: set when no new turn shall start.
    """

    program: Program
    number: int
    client: Client
    options: Options
    scale: Scale
    transport: Transport
    clock: Clock
    start_s: float
    stop: asyncio.Event
    on_event: OnEvent

    @property
    def api(self) -> Api:
        """The client's own, unless told otherwise."""
        return self.options.api or CLIENT_APIS[self.client]


async def run_program(lap: Lap) -> bool:
    """Replay all sessions of a program; True if every turn was sent."""
    ended = {TurnId(s.id, t.index): asyncio.Event() for s, t in lap.program.turns()}
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_Runner(lap, s, ended).run()) for s in lap.program.sessions]
    return all(task.result() for task in running)


class _Runner:
    """One session."""

    def __init__(self, lap: Lap, session: Session, ended: Mapping[TurnId, asyncio.Event]) -> None:
        self._lap, self._session, self._ended = lap, session, ended
        self._text = SessionText(lap.program, session, lap.scale, seed=f"{lap.options.seed}/{lap.number}")
        self._task_of = {
            turn: number
            for number, task in enumerate(tasks(session))
            for turn in range(task.first, task.last + 1)
        }
        self._task_ends = {task.last for task in tasks(session)}
        self._identity = Identity(
            client=lap.client,
            run=f"{lap.options.seed}/{lap.number}/{lap.program.id}",
            session=session.id,
            root=lap.program.sessions[0].id,
            parent=session.parent,
        )

    async def run(self) -> bool:
        """Every turn in order; False if a stop cut it short."""
        try:
            for turn in self._session.turns:
                if not await self._may_start(turn):
                    return False
                await self._turn(turn)
            return True
        finally:
            for turn in self._session.turns:  # whoever waits for a turn that will not come
                self._ended[TurnId(self._session.id, turn.index)].set()

    async def _may_start(self, turn: Turn) -> bool:
        """Wait for what the turn depends on, then for its gap."""
        for needed in turn.after:
            if needed in self._ended:
                await self._ended[needed].wait()
        options = self._lap.options
        gap_s = 0.0 if turn.index == 0 and not turn.after else turn.gap_s * options.gap_scale
        return not await _stopped(self._lap.stop, min(gap_s, options.max_gap_s))

    async def _turn(self, turn: Turn) -> None:
        conversation = await asyncio.to_thread(self._text.turn, turn.index)
        if self._asks_for_title(turn):
            await self._send(turn, side_request(conversation), "side")
        self._lap.on_event(TurnStarted(self._lap.program.id, self._session.id, turn.index))
        await self._send(turn, conversation, "turn")
        self._ended[TurnId(self._session.id, turn.index)].set()

    def _asks_for_title(self, turn: Turn) -> bool:
        """OpenCode has a title written first, on the session's own id."""
        return self._lap.client == "opencode" and self._session.parent is None and turn.index == 0

    async def _send(self, turn: Turn, conversation: Conversation, kind: str) -> None:
        lap = self._lap
        request = body(
            lap.api,
            conversation,
            BodyOptions(
                model=lap.options.model,
                max_tokens=min(conversation.output_tokens, lap.options.max_output_tokens),
                tool_choice=lap.options.tool_choice,
                ignore_eos=lap.options.ignore_eos,
                session=self._identity.id,
            ),
        )
        started_s = lap.clock.monotonic_s() - lap.start_s
        outcome = await lap.transport.send(lap.api, request, self._headers_of(turn, kind))
        record = TurnRecord(
            program=lap.program.id,
            lap=lap.number,
            session=self._session.id,
            agent=self._session.agent,
            turn=turn.index,
            task=self._task_of[turn.index],
            kind=kind,
            client=lap.client,
            api=lap.api,
            gap_kind=turn.gap_kind,
            ends_task=turn.index in self._task_ends,
            ends_session=turn.index == len(self._session.turns) - 1,
            started_s=started_s,
            first_token_s=outcome.first_token_s,
            completion_s=outcome.completion_s,
            expected_tokens=conversation.expected_tokens,
            usage=outcome.usage,
            error=outcome.error,
            detail=outcome.detail,
            retried=tuple(outcome.retried),
        )
        lap.on_event(TurnEnded(record))

    def _headers_of(self, turn: Turn, kind: str) -> Callable[[int], Mapping[str, str]]:
        return lambda attempt: headers(
            self._identity, turn=turn.index, retry=attempt, kind="turn" if kind == "turn" else "title"
        )


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    """Wait for `within_s` seconds, or less if a stop comes: then True."""
    if within_s <= 0 or stop.is_set():
        return stop.is_set()
    try:
        async with asyncio.timeout(within_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True
