"""`agentic-serving diff`: what applying the files would change in a cluster, child objects included.

Each rendered object is sent to the API server as a dry-run server-side apply, so that defaults, conversions and
other writers' fields are the server's own; nothing is written.
"""

import asyncio
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import yaml

from agentic_serving.api.stack import AgenticServingStack
from agentic_serving.api.validate import parse
from agentic_serving.cli.bundle import inputs_of, read_bundle
from agentic_serving.cli.options import cluster_options, files
from agentic_serving.cli.output import located
from agentic_serving.cli.planning import plan_files
from agentic_serving.cluster import kinds
from agentic_serving.cluster.kube import connect
from agentic_serving.cluster.port import Cluster, Kind, Manifest
from agentic_serving.errors import NotFound
from agentic_serving.names import STACK_LABEL
from agentic_serving.render.emitted import EMITTED_KINDS
from agentic_serving.render.plan import render

__all__ = ["changes_of", "diff"]


@dataclass(frozen=True, slots=True)
class Change:
    """One object that would change: what is there (None: nothing) and what would be (None: deleted)."""

    kind: str
    name: str
    before: Manifest | None
    after: Manifest | None


@click.command()
@files
@cluster_options
def diff(
    paths: tuple[str, ...], namespace: str, stack: str | None, kubeconfig: str | None, context: str | None
) -> None:
    """Show what the operator would change in the cluster if PATHS were applied.

    Programs and policies that are not in PATHS are not looked up in the cluster: give the files that belong
    together. The exit code is 0 without differences, 1 with some, 2 if there was an error, as `kubectl diff` does.
    """
    planned = plan_files(paths, namespace=namespace, stack=stack)
    for item in planned.findings:
        click.echo(located(item), err=True)
    if planned.errors:
        sys.exit(2)
    changes = asyncio.run(_all_changes([s for s, _ in planned.plans], paths, namespace, kubeconfig, context))
    for change in changes:
        click.echo(_unified(change), nl=False)
    sys.exit(1 if changes else 0)


async def _all_changes(
    stacks: Sequence[AgenticServingStack],
    paths: tuple[str, ...],
    namespace: str,
    kubeconfig: str | None,
    context: str | None,
) -> list[Change]:
    cluster = await connect(kubeconfig, context)
    try:
        bundle = read_bundle(paths, namespace=namespace)
        served = await cluster.served()
        found: list[Change] = []
        for stack in stacks:
            live = await _live_stack(cluster, stack)
            inputs = replace(inputs_of(bundle, live), served=served)
            found += await changes_of(cluster, live, [dict(m.body) for m in render(inputs).manifests])
        return found
    finally:
        await cluster.close()


async def _live_stack(cluster: Cluster, stack: AgenticServingStack) -> AgenticServingStack:
    """The stack of the files with the identity of the one in the cluster, if it is there."""
    try:
        body = await cluster.get(kinds.STACK, stack.metadata.namespace, stack.metadata.name)
    except NotFound:
        return stack
    live, _ = parse(AgenticServingStack, body)
    return stack if live is None else stack.model_copy(update={"metadata": live.metadata})


async def changes_of(
    cluster: Cluster, stack: AgenticServingStack, desired: Sequence[Manifest]
) -> list[Change]:
    """Every child that a dry-run apply would create or change, and every one that would be pruned."""
    namespace = stack.metadata.namespace
    found: list[Change] = []
    wanted: set[tuple[Kind, str]] = set()
    for manifest in desired:
        kind, name = kinds.of(manifest), str(manifest["metadata"]["name"])
        wanted.add((kind, name))
        try:
            before: Manifest | None = await cluster.get(kind, namespace, name)
        except NotFound:
            before = None
        after = await cluster.apply(kind, manifest, dry_run=True)
        if before is None or _comparable(before) != _comparable(after):
            found.append(Change(kind.kind, name, before, after))
    return found + await _pruned(cluster, stack, wanted)


async def _pruned(
    cluster: Cluster, stack: AgenticServingStack, wanted: set[tuple[Kind, str]]
) -> list[Change]:
    """What the operator would delete: the stack's own objects of any kind, wanted or not, as it decides it."""
    found: list[Change] = []
    selector = f"{STACK_LABEL}={stack.metadata.name}"
    for kind in EMITTED_KINDS:
        try:
            listing = await cluster.list(kind, stack.metadata.namespace, label_selector=selector)
        except NotFound:
            continue  # the cluster does not serve this kind
        for item in listing.items:
            name = str(item["metadata"]["name"])
            if (kind, name) not in wanted and _controls(stack, item):
                found.append(Change(kind.kind, name, item, None))
    return found


def _controls(stack: AgenticServingStack, item: Manifest) -> bool:
    references = item["metadata"].get("ownerReferences") or ()
    return any(r.get("controller") and r.get("uid") == stack.metadata.uid for r in references)


def _comparable(manifest: Manifest) -> dict[str, Any]:
    """An object without what the server alone writes."""
    metadata = {
        k: v
        for k, v in manifest.get("metadata", {}).items()
        if k not in ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
    }
    return {**{k: v for k, v in manifest.items() if k != "status"}, "metadata": metadata}


def _unified(change: Change) -> str:
    """A unified diff, one object a file."""
    before, after = (
        [] if body is None else yaml.safe_dump(_comparable(body), sort_keys=True).splitlines(keepends=True)
        for body in (change.before, change.after)
    )
    label = f"{change.kind}/{change.name}"
    return "".join(difflib.unified_diff(before, after, f"live/{label}", f"planned/{label}"))
