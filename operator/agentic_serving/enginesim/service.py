"""What the four generating APIs share: from a checked request to an answer that is being served."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentic_serving.enginesim.answer import Answer, Delta, Limits, Planner
from agentic_serving.enginesim.conversation import Conversation
from agentic_serving.enginesim.engine import Engine, Handle, Job, Settled
from agentic_serving.enginesim.faults import Fault, not_found, refused
from agentic_serving.enginesim.options import ServeOptions
from agentic_serving.enginesim.render import ChatRenderer, TemplateProblem
from agentic_serving.enginesim.tokens import TextTokenizer
from agentic_serving.enginesim.transfer import Transfer
from agentic_serving.errors import InvalidInput

__all__ = ["Asked", "Running", "Service", "Usage"]

#: Text longer than this is tokenized off the event loop.
_LONG_CHARS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request of any API, checked in form."""

    model: str | None
    request_id: str  # as clients see it, with the API's prefix
    prompt: str | Sequence[int] | Conversation
    max_tokens: int | None
    max_tokens_name: str = "max_tokens"
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    priority: int = 0
    salt: str = ""
    ignore_eos: bool = False
    min_tokens: int = 0
    include_stop: bool = False
    add_special_tokens: bool = False
    kv_transfer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of a request."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(slots=True, kw_only=True)
class Running:
    """An answer that is being served."""

    asked: Asked
    model: str  # as the answer names it
    prompt: Sequence[int]
    answer: Answer
    handle: Handle
    created_s: int
    _service: "Service"

    async def chunks(self) -> AsyncIterator[tuple[Delta, ...]]:
        """What new tokens add, as they come. The request is aborted if the reader goes away.

        An engine that shuts down ends an answer where it is, with `abort` as its reason and status 200, as vLLM does.
        """
        done = 0
        try:
            async for count in self.handle.tokens():
                found = self.answer.deltas[done : done + count]
                done += count
                yield tuple(delta for deltas in found for delta in deltas)
        finally:
            if self.handle.settled is None:
                self._service.engine.abort(self.handle)
        if self.handle.settled is not None and self.handle.settled.finished is None:
            self.answer = self.answer.aborted(done)
            yield ()

    async def complete(self) -> None:
        """Return when the answer is whole."""
        async for _ in self.chunks():
            pass

    def usage(self) -> Usage:
        """Counts so far; cached tokens are known from the first token on."""
        settled: Settled | None = self.handle.settled
        cached = self._service.cached_tokens(self.handle, settled)
        return Usage(
            prompt_tokens=len(self.prompt), output_tokens=self.handle.done_tokens, cached_tokens=cached
        )

    def kv_transfer(self) -> dict[str, Any] | None:
        """What a decode engine needs to fetch this prompt's blocks; None unless it was asked for."""
        return self._service.transfer.offer(self.handle.job, self.asked.kv_transfer)


@dataclass(slots=True, kw_only=True)
class Service:
    """The engine with its frontend."""

    options: ServeOptions
    max_model_len: int
    tokenizer: TextTokenizer
    renderer: ChatRenderer
    planner: Planner
    engine: Engine
    transfer: Transfer
    version: str
    fingerprint: str
    dev_mode: bool = False
    draining: bool = False  # no new request is begun
    load: int = 0  # requests being answered, for /load

    @property
    def since_033(self) -> bool:
        """Whether the version's answers have what 0.33 brought: weight versions, transfer parameters in streams."""
        numbers = [int(part) for part in re.findall(r"\d+", self.version)[:2]]
        return numbers >= [0, 33]

    def check_model(self, model: str | None) -> str:
        """The name that answers carry.

        Raises:
            Fault: 404, it is not served.
        """
        if model and model not in self.options.served_names:
            raise not_found(model, self.options.served_names)
        return self.options.served_names[0]

    async def start(self, asked: Asked) -> Running:
        """Tokenize, plan and submit.

        Raises:
            Fault: it is refused.
        """
        model = self.check_model(asked.model)
        self._check(asked)
        prompt = await self.tokenize(asked.prompt, special=asked.add_special_tokens)
        room = self.max_model_len - len(prompt)
        self._check_length(len(prompt))
        conversation = asked.prompt if isinstance(asked.prompt, Conversation) else None
        answer = self.planner.plan(prompt, conversation, self._limits(asked, room))
        handle = await self._submit(asked, prompt, answer)
        return Running(
            asked=asked, model=model, prompt=prompt, answer=answer, handle=handle,
            created_s=int(time.time()), _service=self,
        )  # fmt: skip

    async def tokenize(self, prompt: str | Sequence[int] | Conversation, *, special: bool) -> Sequence[int]:
        """Ids of a prompt in any form.

        Raises:
            Fault: 400, the chat template refuses it.
        """
        if isinstance(prompt, Conversation):
            try:
                prompt = self.renderer.render(prompt)
            except TemplateProblem as problem:
                raise Fault(str(problem)) from None
        if not isinstance(prompt, str):
            return prompt
        if len(prompt) < _LONG_CHARS:
            return self.tokenizer.encode(prompt, special=special)
        return await asyncio.to_thread(self.tokenizer.encode, prompt, special=special)

    def cached_tokens(self, handle: Handle, settled: Settled | None) -> int:
        """Prompt tokens found cached here or in a tier; what came from a prefill engine does not count, as in vLLM."""
        usage = settled.usage if settled is not None else None
        cached = usage.cached if usage is not None else handle.cached
        return sum(tokens for source, tokens in cached.items() if source != "p2p")

    def _check(self, asked: Asked) -> None:
        name = asked.max_tokens_name
        if asked.max_tokens is not None and asked.max_tokens > self.max_model_len:
            raise refused(
                f"{name}={asked.max_tokens} cannot be greater than max_model_len={self.max_model_len}. "
                "Please request fewer output tokens.",
                name, asked.max_tokens,
            )  # fmt: skip
        if asked.max_tokens is not None and asked.max_tokens < 1:
            raise refused(
                f"max_tokens must be at least 1, got {asked.max_tokens}.", "max_tokens", asked.max_tokens
            )
        if asked.temperature is not None and asked.temperature < 0:
            raise refused(
                f"temperature must be non-negative, got {asked.temperature}.",
                "temperature",
                asked.temperature,
            )
        if asked.priority != 0 and not self.options.priority_scheduling:
            raise Fault(
                f"Got priority {asked.priority} but Priority scheduling is not enabled. "
                "Set --scheduling-policy priority to use it."
            )

    def _check_length(self, tokens: int) -> None:
        """vLLM's tokenizer stops one token behind the limit, so its message tells no more than that."""
        if tokens > self.max_model_len:
            raise refused(
                f"This model's maximum context length is {self.max_model_len} tokens. However, your prompt contains "
                f"at least {self.max_model_len + 1} input tokens, which exceeds this limit even without any output tokens. "
                "Please reduce the length of the input prompt.",
                "input_tokens", self.max_model_len + 1,
            )  # fmt: skip
        if tokens == 0:
            raise Fault("The decoder prompt cannot be empty")
        if tokens == self.max_model_len:
            raise refused("max_tokens must be at least 1, got 0.", "max_tokens", 0)

    def _limits(self, asked: Asked, room: int) -> Limits:
        prefill_only = bool(asked.kv_transfer.get("do_remote_decode"))
        return Limits(
            room_tokens=room,
            max_tokens=1 if prefill_only else asked.max_tokens,
            min_tokens=asked.min_tokens,
            ignore_eos=asked.ignore_eos,
            stop=asked.stop,
            include_stop=asked.include_stop,
        )

    async def _submit(self, asked: Asked, prompt: Sequence[int], answer: Answer) -> Handle:
        most = self.options.max_queued_requests
        if most is not None and len(self.engine.live()) >= most + self.options.max_num_seqs:
            self.engine.reject()
            raise Fault("The request queue is full", kind="Service Unavailable", status=503)
        job = Job(
            id=f"{asked.request_id}-{uuid.uuid4().hex[:8]}",
            prompt=prompt,
            output=answer.ids,
            priority=asked.priority,
            salt=asked.salt,
            remote_tokens=await self.transfer.remote_tokens(asked.kv_transfer, len(prompt)),
            hold_kv=self.transfer.holds(asked.kv_transfer),
            max_tokens=asked.max_tokens,
            finish=answer.finish,
            source=asked.kv_transfer,
        )
        if self.draining:
            return Handle(job, settled=Settled(finished=None))
        try:
            return await self.engine.submit(job)
        except InvalidInput as error:
            raise Fault(str(error)) from None
