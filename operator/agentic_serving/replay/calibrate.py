"""Tokens per word of the server's tokenizer: the slope between two prompts, so that the chat template cancels out."""

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.bodies import Api, BodyOptions, body
from agentic_serving.replay.clients import Identity, headers
from agentic_serving.replay.conversation import Conversation, Entry
from agentic_serving.replay.options import Options
from agentic_serving.replay.text import Scale, Vocabulary
from agentic_serving.replay.transport import Transport

__all__ = ["measure"]

_BLOCK_WORDS = 64
#: Blocks of the short and the long prompt: 512 words lie between them.
_SHORT, _LONG = 1, 9


async def measure(transport: Transport, options: Options, api: Api, identity: Identity) -> float:
    """Tokens per word, from two requests for one token each; 1 where the server reports no usage.

    Raises:
        InvalidInput: the endpoint does not answer, or refuses such a request: its own words.
    """
    short = await _prompt_tokens(transport, options, api, identity, _SHORT)
    long = await _prompt_tokens(transport, options, api, identity, _LONG)
    if short is None or long is None or long <= short:
        return 1.0
    return (long - short) / ((_LONG - _SHORT) * _BLOCK_WORDS)


async def _prompt_tokens(
    transport: Transport, options: Options, api: Api, identity: Identity, blocks: int
) -> int | None:
    vocabulary = Vocabulary(f"calibration/{options.seed}", _BLOCK_WORDS, Scale())
    text = "".join(vocabulary.text(block) for block in range(blocks))[1:]
    prompt = Conversation(
        tools=(), system="", entries=(Entry("user", text),), expected_tokens=0, output_tokens=1
    )
    request = body(api, prompt, BodyOptions(model=options.model, max_tokens=1, session=identity.id))
    outcome = await transport.send(
        api, request, lambda attempt: headers(identity, turn=0, retry=attempt, kind="calibration")
    )
    if outcome.error:
        field = "--model" if outcome.error == "HTTP 404" else "--endpoint"
        raise InvalidInput(field, f"{options.url('/v1')} cannot be used: {outcome.error}: {outcome.detail}")
    return outcome.usage.prompt if outcome.usage else None
