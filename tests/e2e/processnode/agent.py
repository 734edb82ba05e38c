"""The node's agent: registers the node, follows its pods, and gives each a worker."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.localcluster.controlplane import ControlPlane

from .api import Api, ApiError, Informer, Manifest
from .claims import ClaimBinder
from .context import NodeContext
from .events import Recorder
from .images import Program
from .kubelet import KubeletApi, LogFile
from .network import Network
from .pod import PodWorker
from .records import Backoff
from .runtimeclient import RuntimeClient
from .status import timestamp

__all__ = ["Agent", "AgentOptions"]

_FOLLOWED = ("configmaps", "secrets", "services", "persistentvolumeclaims", "persistentvolumes")
_NOT_READY = "node.kubernetes.io/not-ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """As `ProcessNode` was given them."""

    name: str
    folder: Path
    labels: Mapping[str, str]
    capacity: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    resolve: Callable[[str], Program]
    image_volumes: Mapping[str, Path]
    backoff: Backoff
    env: Mapping[str, str]


class Agent:
    """To be used in one event loop, but for `log` and `claim`."""

    def __init__(self, cluster: ControlPlane, network: Network, options: AgentOptions) -> None:
        self._options = options
        url, ca_pem = cluster.endpoint()
        self._api = Api(url, ca_pem, cluster.admin_token)
        self._runtime = RuntimeClient(self._exited)
        self._claims = ClaimBinder(self._api, options.folder / "claims", options.name)
        self._node = NodeContext(
            name=options.name, folder=options.folder, api=self._api, network=network, runtime=self._runtime,
            events=Recorder(self._api, options.name), resolve=options.resolve, image_volumes=options.image_volumes,
            capacity=options.capacity, env=options.env, backoff=options.backoff,
        )  # fmt: skip
        self._kubelet = KubeletApi(self.log, options.folder)
        self._workers: dict[str, PodWorker] = {}  # by uid
        self._logs: dict[tuple[str, str], Path] = {}  # of the newest pod of each name, also when it is gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Register the node and follow its pods; returns when it is Ready and untainted."""
        self._failed = asyncio.get_running_loop().create_future()
        await self._runtime.connect(self._options.folder)
        await self._kubelet.start()
        await self._register()
        for plural in _FOLLOWED:
            self._node.informers[plural] = Informer(
                self._api, f"/api/v1/{plural}", self._surroundings(plural)
            )
        pods = Informer(self._api, "/api/v1/pods", self._pod, selector=f"spec.nodeName={self._options.name}")
        for informer in self._node.informers.values():
            self._background(informer.run())
        for informer in self._node.informers.values():
            await informer.synced.wait()
        self._background(self._node.events.run())
        self._background(self._claims.run())
        self._background(pods.run())
        await asyncio.to_thread(self._node.network.wait_ready)
        await self._untainted()

    async def serve(self) -> None:
        """Until cancelled.

        Raises:
            BaseException: what ended one of the agent's own tasks; a bug.
        """
        if self._failed is None:
            raise RuntimeError("not started")
        await self._failed

    async def close(self) -> None:
        """Hang up on the runtime, which ends everything, and take the Node away."""
        for task in self._tasks:
            task.cancel()
        await self._runtime.close()
        await self._kubelet.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(2):
                await self._api.call("DELETE", f"/api/v1/nodes/{self._options.name}")
        await self._api.close()

    def worker(self, namespace: str, pod: str) -> PodWorker:
        """Raises KeyError: no such pod is on the node."""
        for worker in self._workers.values():
            if worker.object.name == f"{namespace}/{pod}":
                return worker
        raise KeyError(f"{namespace}/{pod} is not on {self._options.name}")

    def evict(self, namespace: str, pod: str, message: str) -> None:
        self.worker(namespace, pod).evict(message)

    def log(self, namespace: str, pod: str, container: str, previous: bool = False) -> LogFile:
        """The log of a container's newest run, or of the one before; also when the pod is gone.

        Raises:
            KeyError: the node has had no such pod, or no such run.
        """
        folder = self._logs.get((namespace, pod))
        if folder is None:
            raise KeyError(f"{self._options.name} has had no pod {namespace}/{pod}")
        runs = sorted((folder / container).glob("*.log"), key=lambda path: int(path.stem))
        wanted = 2 if previous else 1
        if len(runs) < wanted:
            raise KeyError(f"{namespace}/{pod} {container}: {len(runs)} runs so far")
        path = runs[-wanted]

        def growing() -> bool:
            return any(worker.logs == folder and worker.writes_to(path) for worker in self._workers.values())

        return LogFile(path, growing)

    def claim(self, namespace: str, name: str) -> Path:
        """Raises KeyError: no such claim."""
        return self._claims.folder(self._node.informers["persistentvolumeclaims"].items[namespace, name])

    def _pod(self, change: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if change == "DELETED":
            if worker is not None:
                worker.removed()
            return
        if worker is not None:
            worker.update(pod)
            return
        worker = PodWorker(self._node, pod)
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return  # over already, and not ours
        self._workers[uid] = worker
        self._logs[pod["metadata"]["namespace"], pod["metadata"]["name"]] = worker.logs
        if pod["metadata"].get("deletionTimestamp"):
            worker.update(pod)
        self._background(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            self._workers.pop(worker.uid, None)

    def _surroundings(self, plural: str) -> Callable[[str, Manifest], None]:
        def changed(change: str, obj: Manifest) -> None:
            namespace = obj["metadata"].get("namespace")
            if plural == "persistentvolumeclaims":
                self._claims.changed(change, obj)
            if plural == "services":
                return  # only a container's next start looks at them
            for worker in self._workers.values():
                if namespace in (None, worker.object.metadata["namespace"]):
                    worker.surroundings_changed()

        return changed

    def _exited(self, key: str, status: int) -> None:
        waiting = self._node.exits.pop(key, None)
        if waiting is not None:
            waiting(status)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _register(self) -> None:
        await self._api.call(
            "POST", "/api/v1/nodes", _node(self._options, self._node.network, self._kubelet.port)
        )

    async def _untainted(self) -> None:
        path = f"/api/v1/nodes/{self._options.name}"
        while True:
            node = await self._api.call("GET", path)
            if not any(taint["key"] == _NOT_READY for taint in node["spec"].get("taints", ())):
                return
            await asyncio.sleep(0.05)


def _node(options: AgentOptions, network: Network, kubelet_port: int) -> Manifest:
    """The Node with a status, which the API server keeps at creation. Nobody renews it: see the grace period of the
    controller manager in localcluster/commands.py."""
    now = timestamp(time.time())
    ready = {
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the process node is ready",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }  # fmt: skip
    labels = {
        "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": options.name,
        **options.labels,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.name, "labels": labels},
        "spec": {"taints": [dict(taint) for taint in options.taints], "podCIDR": network.pod_cidr},
        "status": {
            "capacity": dict(options.capacity),
            "allocatable": dict(options.capacity),
            "conditions": [ready],
            "addresses": [
                {"type": "InternalIP", "address": network.node_ip},
                {"type": "Hostname", "address": "localhost"},  # where the API server asks for logs
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "process node",
                "containerRuntimeVersion": "process://1", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    }  # fmt: skip
