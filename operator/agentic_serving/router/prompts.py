"""What prompts share: a session graph per run, what is remembered to read the next prompt quickly, token rates.

Bounded by the registry of sessions: nothing is kept of a session that it does not have. Unnamed sessions of a program are
in one graph, as their next prompt must be found among all of them.

A response's id is only in its body, which nobody here reads: `previous_response_id` is taken to name the last prompt of the
same session.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agentic_serving.program.blocks import Memo, Prompt, TokenRate, blocks_of, previous_response
from agentic_serving.program.events import Share
from agentic_serving.program.graph import Delta, Divergence, Match, SessionGraph
from agentic_serving.program.identity import Identity
from agentic_serving.program.prompt import tokens_of
from agentic_serving.program.session_types import Arrival, Gone

__all__ = ["Prompts", "Reading"]

#: Programs times APIs, many times over.
_MAX_RATES = 4096
#: About the last 20 answers count, of those that are long enough to see in blocks of 16 tokens.
_KEPT_WEIGHT = 0.05
_SEEN_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A call's prompt beside those before it. Sizes are estimated tokens.

    Attributes:
        rate: under which name its tokens per byte are learned.
        n_bytes: of its blocks.
        lost: of the session's last prompt, what this one does not have at the same place.
        base: the session whose prefix it shares most of.
        answer: of the new tokens, the session's last answer, which the engine has if the chat template writes it as it was.
    """

    rate: str
    n_bytes: int
    prompt_tokens: int
    new: int
    reused: int = 0
    lost: int = 0
    divergence: Divergence | None = None
    base: str | None = None
    shares: tuple[Share, ...] = ()
    answer: int = 0


@dataclass(slots=True)
class _Last:
    """A session's last prompt, and the answer to it, as far as they are known.

    `memo`: None for sessions that nobody names, as they are not known before it is read.
    """

    memo: Memo | None = None
    tokens: int = 0
    answer: int = 0


class _Kept:
    """Of a program's answers, the share that the next prompt repeats token by token, as engines report it."""

    __slots__ = ("_n", "share")

    def __init__(self) -> None:
        self.share = 1.0
        self._n = 0

    def learn(self, answer: int, cached: int) -> None:
        self._n += 1
        seen = min(1.0, max(0.0, cached / answer))
        self.share += max(1 / self._n, _KEPT_WEIGHT) * (seen - self.share)


class Prompts:
    """The desk's memory of prompts."""

    def __init__(self) -> None:
        self.rates: dict[str, TokenRate] = {}
        self._graphs: dict[str, SessionGraph] = {}
        self._last: dict[str, _Last] = {}
        self._kept: dict[str, _Kept] = {}

    @property
    def sessions(self) -> Iterable[str]:
        """Those of which something is kept."""
        return self._last

    def graph_of(self, run: str) -> SessionGraph:
        """Of a run, by its name; made if there is none."""
        key = _key(run)
        found = self._graphs.get(key)
        if found is None:
            found = self._graphs[key] = SessionGraph()
        return found

    def read(self, identity: Identity, body: object) -> Prompt:
        """The blocks of a call. Of a named session, they are remembered for the next one."""
        rate = self._rate(_rate_name(identity)).tokens_per_byte
        if identity.session is None or identity.kind == "side":
            return blocks_of(body, tokens_per_byte=rate)
        last = self._last.setdefault(identity.session, _Last())
        last.memo = last.memo or Memo()
        if previous_response(body) is None:
            return blocks_of(body, tokens_per_byte=rate, memo=last.memo)
        prompt = blocks_of(body, tokens_per_byte=rate, after=last.memo.prompt)
        last.memo.keep(prompt, [], {})
        return prompt

    def likely(self, identity: Identity, prompt: Prompt) -> Match | None:
        """Of a call that names no session: the one that it goes on from."""
        if identity.session is not None or not len(prompt):
            return None
        graph = self._graphs.get(_key(identity.run or identity.program))
        return None if graph is None else graph.infer(prompt)

    def observe(self, identity: Identity, arrival: Arrival, prompt: Prompt, now_s: float) -> Reading:
        """A turn came: what it is to those before it."""
        rate, n_bytes = _rate_name(identity), prompt.n_bytes
        if arrival.kind == "side" or not len(prompt):
            tokens = tokens_of(n_bytes, prompt.tokens_per_byte)
            return Reading(rate=rate, n_bytes=n_bytes, prompt_tokens=tokens, new=tokens)
        graph = self.graph_of(arrival.run)
        known = arrival.session in graph
        delta = graph.observe(arrival.session, prompt, now_s, parent=arrival.parent)
        last = self._last.setdefault(arrival.session, _Last())
        answer = min(delta.new, last.answer) if _goes_on(delta, arrival.session) else 0
        shares: list[Share] = []
        if known:
            own = delta.reused if delta.base == arrival.session else max(0, last.tokens - delta.lost)
            shares.append(Share(arrival.session, own + int(self._kept_of(rate).share * answer)))
        if delta.base is not None and delta.base != arrival.session:
            shares += [Share(*one) for one in graph.sharers(arrival.session, prompt)]
        last.tokens, last.answer = delta.new + delta.reused, 0
        return Reading(
            rate=rate,
            n_bytes=n_bytes,
            prompt_tokens=last.tokens,
            new=delta.new,
            reused=delta.reused,
            lost=delta.lost,
            divergence=delta.divergence,
            base=delta.base,
            shares=tuple(shares),
            answer=answer,
        )

    def unread(self, identity: Identity, session: str, n_bytes: int) -> Reading:
        """A turn whose body was not read: its session's last prompt, as far as anybody knows, and more."""
        rate = _rate_name(identity)
        last = self._last.get(session)
        known = last.tokens if last is not None else 0
        tokens = max(known, tokens_of(n_bytes, self._rate(rate).tokens_per_byte))
        shares = (Share(session, known),) if known else ()
        return Reading(
            rate=rate, n_bytes=0, prompt_tokens=tokens, new=tokens - known, reused=known, shares=shares
        )

    def reported(
        self,
        session: str,
        run: str,
        reading: Reading,
        *,
        prompt_tokens: int,
        cached_tokens: int | None,
        output_tokens: int,
    ) -> None:
        """An engine counted a turn."""
        beyond = -_SEEN_TOKENS if cached_tokens is None else cached_tokens - reading.reused
        if (
            reading.answer >= _SEEN_TOKENS and beyond > -_SEEN_TOKENS
        ):  # else what came before was not there either
            self._kept_of(reading.rate).learn(reading.answer, beyond)
        self._rate(reading.rate).learn(reading.n_bytes, prompt_tokens)
        graph = self._graphs.get(_key(run))
        last = self._last.get(session)
        if graph is not None and last is not None and reading.n_bytes:
            graph.reported(session, reading.n_bytes, prompt_tokens)
            last.tokens, last.answer = prompt_tokens, output_tokens

    def joined(self, runs: Iterable[str]) -> None:
        """Runs turned out to be part of another one: their sessions begin anew in its graph."""
        for run in runs:
            self._graphs.pop(_key(run), None)

    def gone(self, gone: Gone) -> None:
        self._last.pop(gone.session, None)
        key = _key(gone.run)
        if gone.session == gone.run == key:
            self._graphs.pop(key, None)
        elif (graph := self._graphs.get(key)) is not None:
            graph.remove(gone.session)
            if not len(graph):
                del self._graphs[key]

    def _kept_of(self, name: str) -> _Kept:
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = _Kept()
        return found

    def _rate(self, name: str) -> TokenRate:
        found = self.rates.get(name)
        if found is None:
            if len(self.rates) >= _MAX_RATES:
                self.rates.clear()
                self._kept.clear()
            found = self.rates[name] = TokenRate()
        return found


def _goes_on(delta: Delta, session: str) -> bool:
    """It appends to the session's own last prompt, and so to the answer to that."""
    return delta.base == session and delta.divergence in ("append", "join")


def _rate_name(identity: Identity) -> str:
    """APIs wrap the same words in different JSON; a stack serves one model."""
    return f"{identity.program}/{identity.api}"


def _key(run: str) -> str:
    """The graph that a run is in: of unnamed sessions, which are called `<base>/~N`, their base's."""
    base, _, last = run.rpartition("/")
    return base if last.startswith("~") and base else run
