"""How the engine of a stack is laid out: pools, and how a replica is spread over devices."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import ApiModel, CelRule

__all__ = [
    "Aggregated",
    "Disaggregated",
    "Parallelism",
    "Pool",
    "Topology",
]


class Parallelism(ApiModel):
    """How one replica is spread over devices of one node: tensor x pipeline x data of them."""

    tensor: Annotated[int, Field(ge=1, le=64)] = 1
    """Tensor-parallel ranks."""
    pipeline: Annotated[int, Field(ge=1, le=64)] = 1
    """Pipeline stages."""
    data: Annotated[int, Field(ge=1, le=64)] = 1
    """Data-parallel ranks inside the replica."""
    expert: Literal["Enabled", "Disabled"] = "Disabled"
    """Whether the experts of a mixture-of-experts model are spread over the ranks instead of each being split."""


class Pool(ApiModel):
    """A pool of equal replicas."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of replicas, each one pod."""
    parallelism: Parallelism = Parallelism()
    """How one replica is spread over devices."""


class Aggregated(Pool):
    """One pool whose replicas both prefill and decode."""


class Disaggregated(ApiModel):
    """A pool that prefills and a pool that decodes; KV cache moves between them."""

    transfer: Literal["NIXL"] = "NIXL"
    """What moves the KV cache."""
    prefill: Pool = Pool()
    """Replicas that prefill."""
    decode: Pool = Pool()
    """Replicas that decode, and prefill what is short."""
    uncached_token_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Prompts with fewer uncached tokens than this are prefilled where they decode."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="self.decode.parallelism.tensor >= self.prefill.parallelism.tensor",
            holds=lambda self: self.decode.parallelism.tensor >= self.prefill.parallelism.tensor,
            message="decode.parallelism.tensor must not be below prefill.parallelism.tensor: the decode engine"
            " crashes when it receives KV cache of a wider split",
            field_path=".decode",
        ),
        CelRule(
            cel="self.decode.parallelism.data == 1 && self.prefill.parallelism.data == 1",
            holds=lambda self: self.decode.parallelism.data == 1 and self.prefill.parallelism.data == 1,
            message="data parallelism is not supported in a disaggregated topology: set parallelism.data to 1"
            " and raise replicas",
        ),
    )


class Topology(ApiModel):
    """How the engine is laid out: exactly one."""

    aggregated: Aggregated | None = None
    """One pool."""
    disaggregated: Disaggregated | None = None
    """Prefill and decode apart."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="has(self.aggregated) != has(self.disaggregated)",
            holds=lambda self: (self.aggregated is None) != (self.disaggregated is None),
            message="name exactly one topology: aggregated or disaggregated",
        ),
    )
