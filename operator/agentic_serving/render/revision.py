"""The revision of a prefill/decode pair: pods of different revisions never serve one request together.

docs/decisions/0002-prefill-decode-revisions.md says why, and what else was considered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentic_serving import names
from agentic_serving.render.manifest import canonical_hash

__all__ = ["label_revision", "revision_of"]

#: Options and variables that do not touch the KV cache or its transfer; changing one rolls pods, not the revision.
_HARMLESS_OPTIONS = frozenset(
    {
        "--shutdown-timeout",
        "--disable-access-log-for-endpoints",
        "--enable-force-include-usage",
        "--enable-prompt-tokens-details",
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "--reasoning-parser",
        "--max-num-seqs",
    }
)
_HARMLESS_VARIABLES = frozenset({"VLLM_NO_USAGE_STATS", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "VLLM_LOGGING_LEVEL"})
_LENGTH = 10


def revision_of(pods: Sequence[Mapping[str, Any]]) -> str:
    """A hash of what the engines of all roles must agree on: image, model, arguments, variables, nodes.

    It is of all roles together, so a change to one gives every pod a new revision. What is not known to be
    harmless counts: a revision too many costs a rollout of both pools, one too few a crashed decode engine.
    """
    return canonical_hash([_essence(pod) for pod in pods], length=_LENGTH)


def label_revision(pod: dict[str, Any], revision: str) -> None:
    """Writes the revision on a pod template."""
    pod["metadata"]["labels"][names.REVISION_LABEL] = revision


def _essence(pod: Mapping[str, Any]) -> dict[str, Any]:
    engine = next(c for c in pod["spec"]["containers"] if c["name"] == "engine")
    return {
        "image": engine["image"],
        "args": [arg for arg in engine["args"] if arg.partition("=")[0] not in _HARMLESS_OPTIONS],
        "env": [entry for entry in engine["env"] if entry["name"] not in _HARMLESS_VARIABLES],
        "nodes": pod["spec"].get("nodeSelector", {}),
    }
