"""What tests ask of a served endpoint: one turn, streamed or not, and what became of it."""

import io
import json
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

__all__ = ["Answer", "Caller", "Message", "words"]

Message = dict[str, str]
#: Longer than any turn of the tests; a turn that takes longer is a failure of its own.
_TIMEOUT_S = 60.0


@dataclass(slots=True, kw_only=True)
class Answer:
    """One turn. `error` is what broke the connection, if something did."""

    code: int = 0
    text: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    chunks: int = 0
    finish: str = ""
    error: str = ""
    body: str = ""

    @property
    def ok(self) -> bool:
        """Answered to the end. An engine that shuts down answers 200 and nothing, with finish reason `abort`."""
        return self.code == 200 and not self.error and self.finish in ("stop", "length")

    @property
    def cached_tokens(self) -> int:
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


@dataclass(slots=True, kw_only=True)
class Caller:
    """A client of one endpoint; each `session` is a conversation of its own to the router."""

    endpoint: str
    model: str
    http: aiohttp.ClientSession

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        session: str = "",
        max_tokens: int = 8,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One turn of Chat Completions. A broken connection is told in the answer, not raised."""
        body = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        own = {"x-session-id": session} if session else {}
        answer = Answer()
        try:
            async with self.http.post(
                f"{self.endpoint}/v1/chat/completions",
                data=io.BytesIO(json.dumps(body).encode()),  # as a file: aiohttp warns of large bytes
                headers={"content-type": "application/json", **own, **(headers or {})},
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            ) as response:
                answer.code = response.status
                if stream and response.status == 200:
                    await _read_stream(answer, response.content)
                else:
                    _read_whole(answer, await response.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        return answer


def words(n: int, *, about: str) -> str:
    """`n` words that no other text has, so that nothing of it is cached unless it was sent before."""
    return " ".join(f"{about}{i}" for i in range(n))


def _read_whole(answer: Answer, text: str) -> None:
    answer.body = text
    if answer.code != 200:
        return
    document = json.loads(text)
    answer.text = document["choices"][0]["message"]["content"] or ""
    answer.finish = document["choices"][0]["finish_reason"] or ""
    answer.usage = document.get("usage") or {}


async def _read_stream(answer: Answer, lines: AsyncIterable[bytes]) -> None:
    done = False
    async for line in lines:
        data = line.decode().strip().removeprefix("data: ")
        if not data:
            continue
        if data == "[DONE]":
            done = True
            continue
        chunk = json.loads(data)
        answer.chunks += 1
        answer.usage = chunk.get("usage") or answer.usage
        for choice in chunk.get("choices", ()):
            answer.text += choice.get("delta", {}).get("content") or ""
            answer.finish = choice.get("finish_reason") or answer.finish
    if not done:
        answer.error = "the stream ended without [DONE]"
