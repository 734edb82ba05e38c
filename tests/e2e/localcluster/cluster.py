"""What every kind of test cluster can do: kubectl, apply, CRDs, users. `controlplane.py` is the usual one."""

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from . import thirdparty
from .credentials import kubeconfig_text, write_private
from .process import wait_until

__all__ = ["Cluster", "KubectlFailed", "Reachable"]


class KubectlFailed(RuntimeError):
    """kubectl answered with an error; `stderr` is what it said."""

    def __init__(self, args: Sequence[str], stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(args)}: {stderr.strip()}")
        self.stderr = stderr


class Reachable(Protocol):
    """Anything that speaks the Kubernetes API at an address: a cluster or a proxy before one."""

    def endpoint(self) -> tuple[str, bytes]:
        """Its URL and its CA certificate (PEM)."""


class Cluster:
    """A cluster reached through an administrator's kubeconfig.

    Attributes:
        kubeconfig: path of that file.
        folder: private folder for kubeconfigs and caches.
    """

    has_audit = False

    def __init__(self, *, kubeconfig: Path, kubectl: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.folder = folder
        self._kubectl = kubectl

    @property
    def kubectl_path(self) -> Path:
        """The kubectl binary, for commands that run it themselves."""
        return self._kubectl

    def kubectl(
        self, *args: str, stdin: str | None = None, kubeconfig: Path | None = None, timeout_s: float = 120
    ) -> str:
        """Run kubectl as the administrator, or with another kubeconfig; returns stdout.

        Raises:
            KubectlFailed: it exited with an error.
        """
        command = [str(self._kubectl), *args]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
        }
        done = subprocess.run(
            command,
            input=stdin,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise KubectlFailed(args, done.stderr)
        return done.stdout

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get ... -o json`, parsed."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return found

    def apply(self, objects: Iterable[Mapping[str, Any]], *, namespace: str | None = None) -> None:
        """Server-side apply as the administrator."""
        where = ["-n", namespace] if namespace else []
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=json.dumps(items)
        )

    def create_namespace(self, name: str) -> str:
        """Create a namespace and return its name."""
        self.kubectl("create", "namespace", name)
        return name

    def install_crds(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Apply CustomResourceDefinitions and wait until they are served."""
        crds = list(objects)
        if not crds:
            return
        self.apply(crds)
        names = [f"crd/{crd['metadata']['name']}" for crd in crds]
        wait_until(
            lambda: all(map(self._established, names)), timeout_s=30, what=f"{', '.join(names)} served"
        )

    def _established(self, name: str) -> bool:
        """`kubectl wait` fails, instead of waiting, on a CRD whose conditions the server has not written yet."""
        conditions = self.get(name).get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    def install_third_party(self, *sets: str) -> None:
        """Install other projects' CRDs: the named sets of `thirdparty.CRD_SETS`, or all."""
        self.install_crds(thirdparty.crds(*sets))

    def user_kubeconfig(self, namespace: str, service_account: str, *, via: Reachable | None = None) -> Path:
        """A kubeconfig that acts as a ServiceAccount (which must exist), with a token for 24 h.

        Args:
            via: something in front of this cluster, such as a fault proxy.
        """
        token = self.kubectl("create", "token", service_account, "-n", namespace, "--duration=24h").strip()
        return self.token_kubeconfig(token, via=via, namespace=namespace)

    def token_kubeconfig(
        self, token: str, *, via: Reachable | None = None, namespace: str = "default"
    ) -> Path:
        """A kubeconfig with this bearer token, for this cluster or for what stands in front of it."""
        url, ca_pem = (via or self).endpoint()
        text = kubeconfig_text(url=url, token=token, ca_pem=ca_pem, namespace=namespace)
        handle, name = tempfile.mkstemp(prefix="user-", suffix=".kubeconfig", dir=self.folder)
        os.close(handle)
        return write_private(Path(name), text)

    def endpoint(self) -> tuple[str, bytes]:
        """The API server's URL and its CA certificate (PEM)."""
        view = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        data = cluster.get("certificate-authority-data")
        if data:
            return cluster["server"], base64.b64decode(data)
        return cluster["server"], Path(cluster["certificate-authority"]).read_bytes()
