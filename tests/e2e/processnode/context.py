"""What all pods of a node share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .api import Api, Informer, Manifest
from .events import Recorder
from .images import Program
from .network import Network
from .records import Backoff
from .runtimeclient import RuntimeClient

__all__ = ["NodeContext"]


@dataclass(slots=True, kw_only=True)
class NodeContext:
    """See the module."""

    name: str
    folder: Path
    api: Api
    network: Network
    runtime: RuntimeClient
    events: Recorder
    resolve: Callable[[str], Program]
    image_volumes: Mapping[str, Path]
    capacity: Mapping[str, str]
    env: Mapping[str, str]  # below what a pod sets
    backoff: Backoff
    informers: dict[str, Informer] = field(default_factory=dict)  # by plural
    exits: dict[str, Callable[[int], None]] = field(default_factory=dict)  # who waits for which run's end

    def find(self, plural: str, namespace: str, name: str) -> Manifest | None:
        """An object; of a kind that has no namespaces by the namespace ""."""
        return self.informers[plural].items.get((namespace, name))

    def of_namespace(self, plural: str, namespace: str) -> list[Manifest]:
        return [item for (where, _), item in self.informers[plural].items.items() if where == namespace]
