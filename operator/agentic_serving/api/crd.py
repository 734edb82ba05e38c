"""The CustomResourceDefinitions of the three kinds."""

from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.api.base import ApiModel, ApiObject
from agentic_serving.api.policy import KVTierPolicy, KVTierPolicySpec, KVTierPolicyStatus
from agentic_serving.api.program import AgentProgram, AgentProgramSpec, AgentProgramStatus
from agentic_serving.api.schema import Schema, structural_schema, without_defaults
from agentic_serving.api.stack import (
    AgenticServingStack,
    AgenticServingStackSpec,
    AgenticServingStackStatus,
)

__all__ = ["KIND_INFOS", "KindInfo", "crd", "object_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of `kubectl get`; those of `priority` 1 appear with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_dict(self) -> dict[str, Any]:
        column = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return {**column, "priority": self.priority} if self.priority else column


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """What a CRD needs beyond the types."""

    model: type[ApiObject]
    spec: type[ApiModel]
    status: type[ApiModel]
    plural: str
    short_name: str
    columns: tuple[_Column, ...]

    @property
    def kind(self) -> str:
        return self.model.__name__


def _condition(type_: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_READY = _Column(name="Ready", path=_condition("Ready"))
_REASON = _Column(name="Reason", path=_condition("Ready", "reason"))
_AGE = _Column(name="Age", path=".metadata.creationTimestamp", type="date")
_MESSAGE = _Column(name="Message", path=_condition("Ready", "message"), priority=1)

_INFOS = (
    KindInfo(
        model=AgenticServingStack,
        spec=AgenticServingStackSpec,
        status=AgenticServingStackStatus,
        plural="agenticservingstacks",
        short_name="astack",
        columns=(
            _READY,
            _REASON,
            _Column(name="Model", path=".spec.model.name"),
            _Column(name="Preset", path=".spec.accelerator.preset"),
            _Column(name="Replicas", path=".status.replicas"),
            _AGE,
            _Column(name="Engine", path=".status.resolved.engineVersion", priority=1),
            _Column(name="Endpoint", path=".status.endpoint", priority=1),
            _MESSAGE,
        ),
    ),
    KindInfo(
        model=AgentProgram,
        spec=AgentProgramSpec,
        status=AgentProgramStatus,
        plural="agentprograms",
        short_name="aprog",
        columns=(
            _READY,
            _REASON,
            _Column(name="SLOMet", path=_condition("SLOMet")),
            _Column(name="P95", path=".status.completion.p95"),
            _Column(name="Attained", path=".status.attainmentPercent", type="integer"),
            # The server shows the first result of a path only, so the others of a pipeline stay unseen.
            _Column(name="Stack", path=".spec.agents[0].stackRef.name"),
            _Column(name="Priority", path=".spec.objective.priority", type="integer"),
            _AGE,
            _MESSAGE,
        ),
    ),
    KindInfo(
        model=KVTierPolicy,
        spec=KVTierPolicySpec,
        status=KVTierPolicyStatus,
        plural="kvtierpolicies",
        short_name="kvtp",
        columns=(
            _READY,
            _REASON,
            _Column(name="Enforced", path=_condition("Enforced")),
            _Column(name="Stacks", path=".status.attachedStacksTotal", type="integer"),
            _AGE,
            _MESSAGE,
        ),
    ),
)
#: The kinds by name.
KIND_INFOS: dict[str, KindInfo] = {info.kind: info for info in _INFOS}


def crd(model: type[ApiObject]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    info = KIND_INFOS[model.__name__]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.kind.lower(),
                "shortNames": [info.short_name],
                "categories": [names.CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [c.to_dict() for c in info.columns],
                    "schema": {"openAPIV3Schema": object_schema(model)},
                }
            ],
        },
    }


def object_schema(model: type[ApiObject]) -> Schema:
    """The schema of whole objects of a kind; `metadata` is the API server's own business."""
    info = KIND_INFOS[model.__name__]
    spec, status = structural_schema(info.spec), without_defaults(structural_schema(info.status))
    return {
        "description": " ".join((model.__doc__ or "").split()),
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": [rule.to_dict() for rule in model.cel_rules],
        "properties": {
            "apiVersion": {"description": f"`{names.API_VERSION}`.", "type": "string"},
            "kind": {"description": f"`{info.kind}`.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec, "description": "What the user asks for."},
            "status": {**status, "description": "What the operator reports."},
        },
    }
