"""What a set of files means together: stacks with the programs and the policy that belong to each.

Unknown fields are errors here, unlike in objects read from the API server.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TextIO, TypeVar

from agentic_serving.api.base import ApiObject
from agentic_serving.api.findings import Finding
from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.stack import AgenticServingStack
from agentic_serving.api.validate import KINDS, parse
from agentic_serving.cli.load import Document, load
from agentic_serving.errors import InvalidInput
from agentic_serving.names import API_VERSION
from agentic_serving.render.inputs import RenderInputs

__all__ = ["Bundle", "Located", "inputs_of", "read_bundle"]

Object = ApiObject
T = TypeVar("T", AgenticServingStack, AgentProgram, KVTierPolicy)
Key = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A finding, the object it is about, and where that was read."""

    source: str
    object: str  # AgenticServingStack/chat
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The objects that could be read, by (namespace, name), and everything found wrong on the way."""

    stacks: Mapping[Key, AgenticServingStack]
    programs: Mapping[Key, AgentProgram]
    policies: Mapping[Key, KVTierPolicy]
    sources: Mapping[tuple[str, Key], str]
    findings: tuple[Located, ...]
    others: int = 0

    def source_of(self, item: Object) -> str:
        return self.sources.get((type(item).__name__, _key(item)), "cluster")


def read_bundle(paths: Iterable[str], *, namespace: str = "default", stdin: TextIO | None = None) -> Bundle:
    """Read and check every object of ours in the paths.

    Args:
        namespace: for objects that name none.

    Raises:
        InvalidInput: a path cannot be read, or there is no object of ours in any of them.
    """
    loaded = load(paths, stdin=stdin)
    if not loaded.documents:
        raise InvalidInput("paths", f"hold no object of {API_VERSION} ({loaded.others} other objects)")
    objects: list[tuple[Document, Object]] = []
    findings: list[Located] = []
    for document in loaded.documents:
        item, found = _parse(document, namespace)
        findings += [Located(source=document.source, object=document.label, finding=f) for f in found]
        if item is not None:
            objects.append((document, item))
    findings += _duplicates(objects)
    return Bundle(
        stacks=_of(objects, AgenticServingStack),
        programs=_of(objects, AgentProgram),
        policies=_of(objects, KVTierPolicy),
        sources={(d.kind, _key(item)): d.source for d, item in objects},
        findings=tuple(findings),
        others=loaded.others,
    )


def inputs_of(bundle: Bundle, stack: AgenticServingStack) -> RenderInputs:
    """A stack with the programs that refer to it and the policy that it refers to."""
    namespace = stack.metadata.namespace
    reference = stack.spec.kv_tier_policy_ref
    return RenderInputs(
        stack=stack,
        programs=tuple(
            program
            for (ns, _), program in sorted(bundle.programs.items())
            if ns == namespace and any(a.stack_ref.name == stack.metadata.name for a in program.spec.agents)
        ),
        policy=bundle.policies.get((namespace, reference.name)) if reference else None,
    )


def with_stacks(bundle: Bundle, stacks: Mapping[Key, AgenticServingStack]) -> Bundle:
    return replace(bundle, stacks=stacks)


def _parse(document: Document, namespace: str) -> tuple[Object | None, tuple[Finding, ...]]:
    version, kind = document.body.get("apiVersion"), document.kind
    if version != API_VERSION or kind not in KINDS:
        return None, (
            Finding(
                path="kind",
                reason="InvalidSpec",
                message=f"{version} {kind} is not a kind of this version: use {API_VERSION} with one of {', '.join(KINDS)}",
            ),
        )
    body = dict(document.body)
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and "namespace" not in metadata:
        body["metadata"] = {**metadata, "namespace": namespace}
    return parse(KINDS[kind], body, unknown="Error")


def _key(item: Object) -> Key:
    return item.metadata.namespace, item.metadata.name


def _of(objects: list[tuple[Document, Object]], kind: type[T]) -> dict[Key, T]:
    return {_key(item): item for _, item in objects if isinstance(item, kind)}


def _duplicates(objects: list[tuple[Document, Object]]) -> list[Located]:
    seen: dict[tuple[str, Key], str] = {}
    found: list[Located] = []
    for document, item in objects:
        key = (document.kind, _key(item))
        if key in seen:
            message = f"is also defined in {seen[key]}; the last one would win: remove one"
            finding = Finding(path="metadata.name", reason="InvalidSpec", message=message)
            found.append(Located(source=document.source, object=document.label, finding=finding))
        seen[key] = document.source
    return found
