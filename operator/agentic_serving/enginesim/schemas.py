"""Bodies of requests: the fields that the simulator acts on, checked as vLLM declares them; all others are accepted.

Source: vLLM 0.33.0, the protocol.py of each API under vllm/entrypoints.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "CountRequest",
    "DetokenizeRequest",
    "MessagesRequest",
    "ResponsesRequest",
    "StreamOptions",
    "TokenizeRequest",
]

_Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
_Salt = Annotated[str | None, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class StreamOptions(_Body):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Sampling(_Body):
    """What all generating APIs of OpenAI's have in common."""

    model: str | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    priority: _Int64 = 0
    cache_salt: _Salt = None
    request_id: str | None = None
    kv_transfer_params: dict[str, Any] | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    include_stop_str_in_output: bool = False


class _Function(_Body):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(_Body):
    type: Literal["function"] = "function"
    function: _Function


class _NamedFunction(_Body):
    name: str


class _NamedChoice(_Body):
    type: Literal["function"] = "function"
    function: _NamedFunction


class ChatRequest(_Sampling):
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _NamedChoice | None = "none"
    parallel_tool_calls: bool | None = True
    include_reasoning: bool = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _auto_where_tools_are(cls, data: object) -> object:
        if isinstance(data, dict) and "tool_choice" not in data and data.get("tools"):
            return {**data, "tool_choice": "auto"}
        return data


class CompletionRequest(_Sampling):
    prompt: str | list[int] | list[str] | list[list[int]] | None = None
    max_tokens: int | None = 16
    n: int = 1
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = False
    add_special_tokens: bool = True


class ResponsesRequest(_Sampling):
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool | None = True
    previous_response_id: str | None = None
    background: bool | None = False
    store: bool | None = True
    metadata: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    prompt_cache_key: str | None = None
    service_tier: str = "auto"
    truncation: str | None = "disabled"
    text: dict[str, Any] | None = None
    user: str | None = None


class _Block(_Body):
    type: str
    text: str | None = None
    id: str | None = None
    tool_use_id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    content: str | list[dict[str, Any]] | None = None
    thinking: str | None = None


class _Message(_Body):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _AnthropicTool(_Body):
    name: str
    description: str | None = None
    input_schema: dict[str, Any] = Field(default_factory=dict)


class _AnthropicChoice(_Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountRequest(_Body):
    model: str
    messages: list[_Message]
    system: str | list[_Block] | None = None
    tools: list[_AnthropicTool] | None = None
    tool_choice: _AnthropicChoice | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class MessagesRequest(CountRequest):
    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    cache_salt: _Salt = None
    kv_transfer_params: dict[str, Any] | None = None

    @field_validator("max_tokens")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError("max_tokens must be positive")
        return value


class TokenizeRequest(_Body):
    """Of a prompt, or of messages; one of both."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[_Tool] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = False
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _something(self) -> "TokenizeRequest":
        if self.prompt is None and self.messages is None:
            raise ValueError("prompt or messages is required")
        return self


class DetokenizeRequest(_Body):
    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, le=2**63 - 1)]]
