"""The model of a stack: its name, where its weights come from, and facts for sizing."""

from typing import Annotated, ClassVar

from pydantic import Field

from agentic_serving.api.base import ApiModel, CelRule, DnsSubdomain, QuantityString

__all__ = [
    "HuggingFaceSource",
    "ImageReference",
    "KeySelector",
    "Model",
    "ModelSource",
    "OciSource",
    "PersistentVolumeClaimSource",
    "Profile",
    "RelativePath",
]

# A path inside a volume: relative, without `..`, so that it cannot leave it.
RelativePath = Annotated[str, Field(max_length=512, pattern=r"^([A-Za-z0-9_\-][A-Za-z0-9._\-]*/?)*$")]
ImageReference = Annotated[
    str, Field(min_length=1, max_length=512, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._\-/:@]*$")
]


class KeySelector(ApiModel):
    """A key of a Secret in the same namespace."""

    name: DnsSubdomain
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Key in the Secret."""


class HuggingFaceSource(ApiModel):
    """Weights downloaded from the Hugging Face hub when the pod starts."""

    repository: Annotated[
        str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+)?$")
    ]
    """Repository, such as `Qwen/Qwen3-32B`."""
    revision: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._\-/]+$")] | None = None
    """Branch, tag or commit. Name a commit to make a restart load the same weights."""
    token_secret_ref: KeySelector | None = None
    """Access token for gated repositories."""


class PersistentVolumeClaimSource(ApiModel):
    """Weights on a volume that is already filled."""

    claim_name: DnsSubdomain
    """A PersistentVolumeClaim in the same namespace; it is mounted read-only."""
    path: RelativePath = ""
    """Folder on the volume that holds the model; the volume's root by default."""


class OciSource(ApiModel):
    """Weights in an OCI image that is mounted as a volume (Kubernetes image volumes)."""

    image: ImageReference
    """Reference of the image or artifact."""
    path: RelativePath = ""
    """Folder in the image that holds the model; its root by default."""


class ModelSource(ApiModel):
    """Where the weights come from: exactly one."""

    hugging_face: HuggingFaceSource | None = None
    """The Hugging Face hub."""
    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A volume."""
    oci: OciSource | None = None
    """An OCI image."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="[has(self.huggingFace), has(self.persistentVolumeClaim), has(self.oci)].filter(x, x).size() == 1",
            holds=lambda self: [self.hugging_face, self.persistent_volume_claim, self.oci].count(None) == 2,
            message="name exactly one source: huggingFace, persistentVolumeClaim or oci",
        ),
    )


class Profile(ApiModel):
    """Facts about a model that is not in the built-in table. `agentic-serving model inspect` prints them."""

    kv_bytes_per_token: Annotated[int, Field(ge=1, le=100_000_000)]
    """Bytes of KV cache that one token adds, over all layers, before any tensor-parallel split."""
    kv_heads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of KV heads; with more tensor-parallel ranks than this, ranks hold copies. 1 for latent attention."""
    weight_bytes: QuantityString | None = None
    """Size of the weights, such as `64Gi`. Without it, whether the model fits is not checked."""


class Model(ApiModel):
    """The model that the stack serves."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/\-]*$")]
    """Name by which clients ask for it."""
    source: ModelSource
    """Where the weights come from."""
    context_length: Annotated[int, Field(ge=256, le=16_777_216)] | None = None
    """Longest prompt plus answer in tokens; the model's own maximum by default."""
    profile: Profile | None = None
    """Facts for sizing; needed only for models that are not built in."""
