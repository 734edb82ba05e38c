"""Where the API server is and who we are there: kubeconfig files and the service account of a pod."""

import asyncio
import os
from pathlib import Path

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME
from kubernetes.aio.config.kube_config import KubeConfigLoader

from agentic_serving.errors import InvalidInput

__all__ = ["load_configuration"]

#: How often a kubeconfig's credentials (exec plugin, OIDC, token file) are looked at again, in seconds; the
#: client does the same with a service account's token.
_REFRESH_S = 60.0
_HOME_FILE = "~/.kube/config"
#: What reading someone's kubeconfig raises when it is wrong: the library's own error, and those of YAML, files
#: and missing or mistyped keys.
_BAD_CONFIG = (ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError, AttributeError)


async def load_configuration(kubeconfig: str | None, context: str | None) -> Configuration:
    """The given file, else `$KUBECONFIG`, else the pod's service account, else `~/.kube/config`.

    The order is controller-runtime's (`pkg/client/config`). A context is looked up in files only.

    Raises:
        InvalidInput: nothing was found, or what was found cannot be used.
    """
    files = kubeconfig or os.environ.get("KUBECONFIG", "")
    if files:
        return await _from_files(files, context)
    if context is None and os.environ.get(SERVICE_HOST_ENV_NAME):
        return _from_service_account()
    if _exists(_HOME_FILE):
        return await _from_files(_HOME_FILE, context)
    raise InvalidInput(
        "kubeconfig",
        f"no cluster to talk to: KUBECONFIG is not set, this is not a pod, and {_HOME_FILE} does not exist; "
        "pass --kubeconfig FILE or set KUBECONFIG",
    )


def _exists(file: str) -> bool:
    return Path(file).expanduser().exists()


def _from_service_account() -> Configuration:
    configuration = Configuration()
    try:
        load_incluster_config(configuration)
    except _BAD_CONFIG as error:
        raise InvalidInput("service account", f"cannot be used to reach the API server: {error}") from error
    return configuration


async def _from_files(files: str, context: str | None) -> Configuration:
    """As kubectl reads it: several paths, separated as in PATH, are merged."""
    if not any(_exists(part) for part in files.split(os.pathsep) if part):
        raise InvalidInput("kubeconfig", f"{files} does not exist")
    configuration = Configuration()
    try:
        loader = await load_kube_config(files, context, configuration)
    except _BAD_CONFIG as error:
        where = f"context {context} of {files}" if context else files
        raise InvalidInput("kubeconfig", f"{where} cannot be used: {error}") from error
    # The client's class declares the hook by its default, None.
    vars(configuration)["refresh_api_key_hook"] = _Refresh(loader)
    return configuration


class _Refresh:
    """Loads short-lived credentials again, at most once per `_REFRESH_S`; the client calls it per request."""

    def __init__(self, loader: KubeConfigLoader) -> None:
        self._loader = loader
        self._due_s = asyncio.get_running_loop().time() + _REFRESH_S

    async def __call__(self, configuration: Configuration) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _REFRESH_S
        await self._loader.load_and_set(configuration)
