"""Where a pod finds the model: the name or path to give the engine, and what to mount for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.api.stack import KeySelector, ModelSource

__all__ = ["MODELS_PATH", "Weights", "weights"]

#: Where weights that come as a volume are mounted.
MODELS_PATH = "/models"
_VOLUME = "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The model as a pod sees it.

    Attributes:
        model_ref: Hugging Face repository, or absolute path in the container.
        volumes, mounts: of the pod and of each container that reads the model.
        token: Secret with an access token for the hub.
    """

    model_ref: str
    revision: str | None = None
    token: KeySelector | None = None
    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    rules: tuple[Rule, ...] = ()


def weights(source: ModelSource) -> Weights:
    """The one source that is set, as the pod sees it."""
    if source.hugging_face is not None:
        hub = source.hugging_face
        return Weights(model_ref=hub.repository, revision=hub.revision, token=hub.token_secret_ref)
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        return _mounted(
            {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}},
            claim.path,
            Rule(
                id="weights/volume",
                reason="the weights are on a volume that is already filled; read-only, so that replicas can share it",
                source="spec.model.source.persistentVolumeClaim",
            ),
        )
    if source.oci is not None:
        return _mounted(
            {"image": {"reference": source.oci.image, "pullPolicy": "IfNotPresent"}},
            source.oci.path,
            Rule(
                id="weights/image-volume",
                reason="the weights are an OCI image mounted as a volume; the cluster needs image volumes (Kubernetes 1.33 or later)",
                source="spec.model.source.oci; https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/",
            ),
        )
    raise AssertionError("a model source is set: cross-field rules are checked before")


def _mounted(volume: Mapping[str, Any], path: str, rule: Rule) -> Weights:
    return Weights(
        model_ref=f"{MODELS_PATH}/{path}".rstrip("/"),
        volumes=({"name": _VOLUME, **volume},),
        mounts=({"name": _VOLUME, "mountPath": MODELS_PATH, "readOnly": True},),
        rules=(rule,),
    )
