"""A node of the local cluster whose pods are processes of this machine.

    with ControlPlane(Options(process_nodes=True)) as cp, Network(cp) as net, ProcessNode(cp, net) as node:
        cp.apply([deployment], namespace=ns)
        print(node.logs(ns, pod, "engine"))

An agent (this process, a thread with an event loop) does what a kubelet does: it watches the pods bound to the node,
decides, and writes their status. A runtime (`runtime.py`, a program of its own) does what a container runtime does.
When this process ends, however it ends, the runtime ends, and with it every process and every mount.
"""

import asyncio
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.process import Workplace

from .agent import Agent, AgentOptions
from .images import Images, Program
from .network import Network
from .pod import PodWorker
from .records import Backoff
from .running import Containers
from .runtimeclient import start_runtime

__all__ = ["Backoff", "ProcessNode"]

Engine = Literal["sim", "vllm"]
T = TypeVar("T")

# No real machine: large enough that nothing but what a test gives is ever scarce.
_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "1Ti", "hugepages-2Mi": "0"}
_READY_TIMEOUT_S = 60.0  # takes 1 to 2 s on an idle machine
_CALL_TIMEOUT_S = 60.0


class ProcessNode:
    """See the module.

    Attributes:
        name: of the Node.
        folder: private; logs, volumes and claims are in it.
    """

    def __init__(
        self,
        cluster: ControlPlane,
        network: Network,
        *,
        name: str = "node-local",
        engine: Engine = "sim",
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        images: Callable[[str], Program] | None = None,
        image_volumes: Mapping[str, Path] | None = None,
        backoff: Backoff | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Make a node that is not yet in the cluster.

        Args:
            engine: what the engines' images run: the simulator, or real vLLM.
            capacity: over the default one; allocatable is the same.
            images: the image table, instead of the default one for `engine`.
            image_volumes: folders of the host for volumes from images, by reference.
            env: variables of every container, below the pod's own.
        """
        self.name = name
        self._cluster = cluster
        self._network = network
        self._place = Workplace(prefix="agentic-node-")
        self.folder = self._place.folder
        self._options = AgentOptions(
            name=name,
            folder=self.folder,
            labels=dict(labels or {}),
            capacity={**_CAPACITY, **(capacity or {})},
            taints=tuple(taints),
            resolve=images or Images(engine=engine).resolve,
            image_volumes=dict(image_volumes or {}),
            backoff=backoff or Backoff(),
            env=dict(env or {}),
        )
        self._agent: Agent | None = None
        # Cancels at its end what still runs.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, name=f"agent of {name}", daemon=True)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._serving: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        try:
            start_runtime(self._place)
            self._thread.start()
            if not self._ready.wait(_READY_TIMEOUT_S):
                raise TimeoutError(f"node {self.name} was not Ready within {_READY_TIMEOUT_S:g} s")
            self._raise_failure()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill everything and take the Node out of the cluster. A second call does nothing."""
        if self._serving is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join()
        self._runner.close()
        self._place.close()
        self._raise_failure()

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        """Standard output and error of a container's newest run, or of the one before.

        Raises:
            KeyError: the node has had no such pod, or no such run.
        """
        return self._running().log(namespace, pod, container, previous).path.read_text(errors="replace")

    def kill(self, namespace: str, pod: str, container: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a container's first process."""
        self._within(namespace, pod, container, lambda worker: _containers(worker).signal(container, number))

    def pause(self, namespace: str, pod: str, container: str) -> None:
        """Stop all processes of a container where they are; it stays so until `resume`."""
        self._signal_all(namespace, pod, container, signal.SIGSTOP)

    def resume(self, namespace: str, pod: str, container: str) -> None:
        self._signal_all(namespace, pod, container, signal.SIGCONT)

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, timeout_s: float = 30
    ) -> tuple[int, str]:
        """Run a command in a container: (exit code, output)."""
        return self._within(
            namespace,
            pod,
            container,
            lambda worker: _containers(worker).run(container, list(argv), timeout_s),
        )

    def evict(self, namespace: str, pod: str, message: str) -> None:
        """End a pod as a kubelet does under pressure: at once, phase Failed, reason Evicted."""
        agent = self._running()

        async def evict() -> None:
            agent.evict(namespace, pod, message)

        self._call(evict())

    def claim_folder(self, namespace: str, claim: str) -> Path:
        """The folder behind a PersistentVolumeClaim that this node has made Bound."""
        found = self._running().claim(namespace, claim)
        return Path(found)

    def _signal_all(self, namespace: str, pod: str, container: str, number: int) -> None:
        self._within(
            namespace, pod, container, lambda worker: _containers(worker).signal_all(container, number)
        )

    def _within(
        self, namespace: str, pod: str, container: str, work: Callable[[PodWorker], Awaitable[T]]
    ) -> T:
        agent = self._running()

        async def found() -> T:
            worker = agent.worker(namespace, pod)
            if container not in _containers(worker).records:
                raise KeyError(f"{namespace}/{pod} has no container {container}")
            return await work(worker)

        return self._call(found())

    def _raise_failure(self) -> None:
        """A bug of the agent's, told once to whoever asks next."""
        error, self._error = self._error, None
        if error is not None:
            raise RuntimeError(f"the agent of {self.name} failed") from error

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            self._raise_failure()
            raise RuntimeError(f"node {self.name} is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)

    def _running(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("the node is not running")
        return self._agent

    def _run(self) -> None:
        try:
            self._runner.run(self._serve())
        except asyncio.CancelledError:
            return  # closed
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for the node
            self._error = error
            traceback.print_exception(error)
        finally:
            self._ready.set()
            self._runner.close()

    async def _serve(self) -> None:
        self._serving = asyncio.current_task()
        self._agent = Agent(self._cluster, self._network, self._options)
        try:
            await self._agent.start()
            self._ready.set()
            await self._agent.serve()
        finally:
            await self._agent.close()


def _containers(worker: PodWorker) -> Containers:
    if worker.containers is None:
        raise KeyError(f"{worker.object.name} has no containers yet")
    return worker.containers
