"""LMCache as a tier: a server beside each engine, with a file-system store and a coordinator where it is shared.

The server is a native sidecar on the pod's loopback. Transfers are engine-driven: the engine's workers copy into
a segment in /dev/shm that both containers mount, so the server needs no device, and no host IPC or privilege.
(Server-driven transfers open the engine's device memory by CUDA IPC, for which a second container of the pod would
have to be given the engine's own devices.) Sources: lmcache 0.5.6, `lmcache server --help`,
lmcache/v1/multiprocess/transfer_context. Engine and server were run together without a device, never on a GPU.
"""

import json
import math
from typing import Any

from agentic_serving.api.policy import SharedTier
from agentic_serving.api.quantities import format_bytes
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Setting
from agentic_serving.errors import Bug
from agentic_serving.tiers.base import Coordinator, TierInputs, TierPlan, sized

__all__ = [
    "COORDINATOR_PORT",
    "HTTP_PORT",
    "MECHANISM",
    "lmcache_caveat",
    "lmcache_plan",
    "lmcache_unsupported",
]

MECHANISM = "LMCache server beside the engine"
PORT = 5555  # requests, loopback only; default of `lmcache server --port`
HTTP_PORT = 8080  # probes and metrics; default of `lmcache server --http-port`
COORDINATOR_PORT = 9300  # default of `lmcache coordinator --port`

_GIB = 1024**3
#: `--chunk-size`'s default: tokens that are stored as one. A chunk is whole blocks of the engine.
_CHUNK_TOKENS = 256
#: `--eviction-trigger-watermark`'s default: fuller than this the server evicts, so this much is kept.
_KEPT = 0.8
#: Beside the cache itself. Measured 0.7 to 1.2 GB with lmcache 0.5.6; rounded up for its queues.
_OVERHEAD_BYTES = 2 * _GIB
#: Seconds. With the defaults, 300 and 10, requests stalled 20 s and once over 60 s after a restart of the server;
#: with these none did (lmcache 0.5.6 with vLLM on a CPU, one try each).
_MQ_TIMEOUT_S, _HEARTBEAT_S = 5, 2
_SEGMENT = "agentic-serving"
_SHARED_DIR = "/var/lib/lmcache"
_RUN_AS_USER = 2000

_HELP = "lmcache 0.5.6, lmcache server --help"
_RULES = (
    Rule(
        id="tier/lmcache-one-image",
        reason="the server runs from the engine's image, so client and server are of one version",
        source="vLLM, requirements/kv_connectors.txt: lmcache >= 0.3.9, whichever is newest when the image is built",
    ),
    Rule(
        id="tier/lmcache-engine-driven",
        reason="engine and server exchange KV cache through a segment in the shared memory volume of the pod, so the"
        " server needs neither device nor host IPC; both sides leave isolated IPC off",
        source="lmcache 0.5.6, lmcache/v1/multiprocess/transfer_mode.py, transfer_context/shm.py",
    ),
    Rule(
        id="tier/lmcache-timeouts",
        reason="an engine notices a restarted server in seconds instead of stalling requests for up to a minute",
        source="measured with lmcache 0.5.6: mq_timeout 5, heartbeat_interval 2",
    ),
    Rule(
        id="tier/lmcache-no-readiness",
        reason="the server has no readiness probe: without it the engine still serves, and computes again",
        source="lmcache 0.5.6, lmcache/integration/vllm/vllm_multi_process_adapter.py: degraded mode",
    ),
)
_SHARED_RULES = (
    Rule(
        id="tier/lmcache-shared",
        reason="all servers keep their files on one volume and report what they hold to one coordinator",
        source=_HELP + ": --l2-adapter, --coordinator-url, --coordinator-event-reporting",
    ),
)
_COORDINATOR_RULES = (
    Rule(
        id="tier/lmcache-coordinator",
        reason="it resolves keys by the same chunk size and hash as the servers, so it is told both",
        source="lmcache 0.5.6, lmcache coordinator --help: must equal the MP servers' --chunk-size",
    ),
)
_QUIET = Setting(
    name="LMCACHE_TRACK_USAGE",
    value="false",
    reason="nothing is reported to outside the cluster",
    source="lmcache 0.5.6, lmcache/usage_telemetry/identity.py",
)


def lmcache_unsupported(inputs: TierInputs) -> str | None:
    """Why the engine cannot use LMCache here; None if it can."""
    packages = inputs.engine_packages
    if packages is None or "lmcache" in packages:
        return _mixed_layers(inputs)
    return (
        f"{inputs.engine}'s default image for {inputs.accelerator.engine_variant} does not hold LMCache: set "
        "spec.engine.image (and version) to an image with the package lmcache, or use backend Native"
    )


def _mixed_layers(inputs: TierInputs) -> str | None:
    """Engine-driven transfers take one kind of layer (lmcache 0.5.6, transfer_context/worker_transfer.py)."""
    if inputs.profile is None or inputs.profile.attention not in ("Hybrid", "SlidingWindow"):
        return None
    return (
        f"{inputs.profile.name} mixes kinds of attention layers, and LMCache's engine-driven transfers take one kind: "
        "use backend Native"
    )


def lmcache_caveat(inputs: TierInputs) -> str | None:
    """What is not known about LMCache here; None if nothing is."""
    if inputs.profile is not None and inputs.profile.attention is not None:
        return None
    return (
        "the model is not known: if it mixes kinds of attention layers, the engine does not start with LMCache and "
        "needs backend Native"
    )


def lmcache_plan(inputs: TierInputs, capacity_bytes: int, shared: SharedTier | None) -> TierPlan:
    """An LMCache server of `capacity_bytes` beside each engine, and the shared store behind it if there is one.

    Raises:
        Bug: a shared tier without a coordinator's host, or no engine image.
    """
    if not inputs.engine_image or (shared is not None and not inputs.coordinator_host):
        raise Bug("LMCache needs the engine's image, and the coordinator's host for a shared tier")
    kept = int(capacity_bytes * _KEPT)
    tokens, blocks = sized(inputs, kept)
    return TierPlan(
        connector=_connector(),
        env=(_QUIET,),
        sidecars=(_server(inputs, capacity_bytes, shared),),
        volumes=_volumes(shared),
        shm_bytes=capacity_bytes,
        # The kernel charges a page of the segment to the container that writes it first: mostly the engine.
        engine_memory_bytes=capacity_bytes,
        memory_bytes=capacity_bytes + _OVERHEAD_BYTES,
        capacity_bytes=kept,
        capacity_tokens=tokens,
        capacity_blocks=blocks,
        coordinator=_coordinator(inputs) if shared is not None else None,
        rules=_RULES + (_SHARED_RULES if shared is not None else ()),
    )


def _connector() -> dict[str, Any]:
    return {
        "kv_connector": "LMCacheMPConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {
            "lmcache.mp.host": "tcp://127.0.0.1",
            "lmcache.mp.port": PORT,
            "lmcache.mp.mq_timeout": _MQ_TIMEOUT_S,
            "lmcache.mp.heartbeat_interval": _HEARTBEAT_S,
            "lmcache.mp.mp_transfer_mode": "engine_driven",
        },
    }


def _chunk_tokens(inputs: TierInputs) -> int:
    return math.lcm(_CHUNK_TOKENS, inputs.block_tokens)


def _server(inputs: TierInputs, capacity_bytes: int, shared: SharedTier | None) -> dict[str, Any]:
    """The sidecar, as an entry of `initContainers`."""
    return {
        "name": "lmcache",
        "image": inputs.engine_image,
        "restartPolicy": "Always",
        "command": ["lmcache", "server"],
        "args": _server_args(inputs, capacity_bytes, shared),
        "env": _server_env(inputs),
        "ports": [{"name": "lmcache-http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "startupProbe": _probe(
            period_s=2, failures=300
        ),  # allocating and zeroing hundreds of GiB takes minutes
        "livenessProbe": _probe(period_s=10, failures=6),
        "resources": {
            "requests": {"cpu": "1", "memory": format_bytes(_OVERHEAD_BYTES)},
            "limits": {"memory": format_bytes(_OVERHEAD_BYTES + capacity_bytes)},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _RUN_AS_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": _server_mounts(shared),
    }


def _server_args(inputs: TierInputs, capacity_bytes: int, shared: SharedTier | None) -> list[str]:
    args = [
        "--host=127.0.0.1",
        f"--port={PORT}",
        "--http-host=0.0.0.0",  # for probes and scrapes; NetworkPolicies admit nobody else
        f"--http-port={HTTP_PORT}",
        f"--l1-size-gb={_gib(capacity_bytes)}",
        "--no-l1-use-lazy",  # a segment is there as a whole, and without a device lazy allocation is off anyway
        "--supported-transfer-mode=engine_driven",
        f"--shm-name={_SEGMENT}",
        f"--chunk-size={_chunk_tokens(inputs)}",
        "--hash-algorithm=blake3",
        "--eviction-policy=LRU",
    ]
    if shared is not None:
        store = json.dumps({"type": "fs", "base_path": f"{_SHARED_DIR}/kv"}, separators=(",", ":"))
        args += [
            f"--l2-adapter={store}",
            "--instance-id=$(POD_NAME)",
            f"--coordinator-url=http://{inputs.coordinator_host}:{COORDINATOR_PORT}",
            "--coordinator-advertise-ip=$(POD_IP)",
            "--coordinator-event-reporting",
        ]
    return args


def _gib(capacity_bytes: int) -> str:
    """`--l1-size-gb` counts GiB (lmcache/v1/distributed/config.py: `* (1 << 30)`); rounded down to whole MiB."""
    return f"{capacity_bytes // 2**20 / 1024:.6f}".rstrip("0").rstrip(".")


def _server_env(inputs: TierInputs) -> list[dict[str, Any]]:
    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    env = [
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - the container's own volume, mounted below
        {"name": _QUIET.name, "value": _QUIET.value},
    ]
    if inputs.accelerator.engine_variant == "cuda":
        # The image asks for all devices by default; where NVIDIA's runtime is the node's default it would get them.
        env.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    return env


def _server_mounts(shared: SharedTier | None) -> list[dict[str, Any]]:
    mounts = [
        {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - the memory volume that the engine mounts too
        {"name": "lmcache-tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own volume
    ]
    if shared is not None:
        mounts.append({"name": "lmcache-shared", "mountPath": _SHARED_DIR})
    return mounts


def _volumes(shared: SharedTier | None) -> tuple[dict[str, Any], ...]:
    own: tuple[dict[str, Any], ...] = ({"name": "lmcache-tmp", "emptyDir": {"sizeLimit": "1Gi"}},)
    if shared is None:
        return own
    claim = {"claimName": shared.persistent_volume_claim.claim_name}
    return (*own, {"name": "lmcache-shared", "persistentVolumeClaim": claim})


def _probe(*, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/healthcheck", "port": HTTP_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _coordinator(inputs: TierInputs) -> Coordinator:
    return Coordinator(
        image=inputs.engine_image,
        command=("lmcache", "coordinator"),
        args=(
            "--host=0.0.0.0",
            f"--port={COORDINATOR_PORT}",
            f"--chunk-size={_chunk_tokens(inputs)}",
            "--hash-algorithm=blake3",
        ),
        env=(_QUIET,),
        port=COORDINATOR_PORT,
        health_path="/healthz",
        # Measured 0.4 GB with lmcache 0.5.6 and few keys; its directory grows with them.
        resources={"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        rules=_COORDINATOR_RULES,
    )
