"""The clients, an engine that follows the script, and stacks of such engines on a cluster whose pods run as processes."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.apiclient import ApiClient
from tests.e2e.dataplane.site import MODEL, Site, Stack
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.process import Workplace
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.e2e.operator_process import OperatorProcess, install
from tests.e2e.processnode.network import Network, unavailable
from tests.e2e.processnode.node import ProcessNode
from tests.e2e.realengines.processes import Served, start_sim
from tests.e2e.routerkit.pickers import LLMD_EPP, picker_binary
from tests.e2e.stacks import program
from tests.e2e.world import FAST

from .clients import CLIENTS, Client
from .install import install as install_clients

_SCRIPT = Path(__file__).parent / "script.yaml"
_ENGINE = {"ENGINESIM_TIME_SCALE": "0.05"}
#: Claude Code's first turn is 76 KB, which is 17 000 tokens of the simulator's tokenizer.
_CONTEXT = 131072

Start = Callable[[type[Client], str], Client]


@pytest.fixture(scope="session")
def commands() -> Path:
    return install_clients()


@pytest.fixture(scope="session")
def script() -> Iterator[Path]:
    """The script where the engines' pods, which are not root, may read it."""
    with tempfile.TemporaryDirectory(prefix="agentic-script-") as folder:
        Path(folder).chmod(0o755)
        file = Path(shutil.copy(_SCRIPT, folder))
        file.chmod(0o644)
        yield file


@pytest.fixture
def start(commands: Path, tmp_path: Path) -> Start:
    """A client with a home and a folder of its own, pointed at an endpoint."""

    def make(kind: type[Client], endpoint: str) -> Client:
        home, work = tmp_path / "home", tmp_path / "work"
        home.mkdir()
        work.mkdir()
        return kind(commands=commands, home=home, work=work, endpoint=endpoint, model=MODEL)

    return make


@pytest.fixture(scope="session")
def engine(script: Path) -> Iterator[str]:
    """The address of one engine, with nothing before it."""
    options = ("--enable-auto-tool-choice", "--tool-call-parser=hermes", f"--max-model-len={_CONTEXT}")
    env = {**_ENGINE, "ENGINESIM_SCRIPT": str(script), "ENGINESIM_KV_BLOCKS": "20000"}
    with Workplace("agentic-agents-") as place:
        served = Served(model=Path(MODEL), arguments=options, env=env)
        started = start_sim(place, served).await_ready(timeout_s=60)
        yield f"http://{started.client.host}:{started.client.port}"


@pytest.fixture(scope="session")
def site(script: Path) -> Iterator[Site]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    env = {**_ENGINE, "ENGINESIM_SCRIPT": str(script)}
    with (
        ControlPlane(Options(nodes=(), crds=tuple(CRD_SETS), process_nodes=True)) as cluster,
        Network(cluster) as network,
        ProcessNode(cluster, network, env=env) as node,
    ):
        install(cluster)
        api = ApiClient(cluster, cluster.admin_token)
        with OperatorProcess(cluster, settings=FAST) as operator:
            yield Site(cluster=cluster, node=node, operator=operator, api=api)
        api.close()


@pytest.fixture(scope="session")
def served(site: Site) -> Iterator[Callable[[str], Stack]]:
    """A stack of two replicas behind the picker of a release, with a program per client; made when first asked for."""
    made: dict[str, Stack] = {}

    def by_release(release: str) -> Stack:
        if picker_binary(release) is None:
            pytest.skip(f"llm-d's picker: set {LLMD_EPP} to a build of llm-d-router v0.10.0 cmd/epp")
        if release not in made:
            made[release] = _serve(site, release)
        return made[release]

    yield by_release
    for stack in made.values():
        site.cluster.kubectl("delete", "namespace", stack.namespace, "--wait=false")


def _serve(site: Site, release: str) -> Stack:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    site.cluster.create_namespace(namespace)
    programs = [program(kind.name.lower(), "chat", match={"clients": [kind.name]}) for kind in CLIENTS]
    site.cluster.apply(programs, namespace=namespace)
    return Stack.serve(site, namespace, "chat", replicas=2, router={"endpointPicker": {"release": release}})
