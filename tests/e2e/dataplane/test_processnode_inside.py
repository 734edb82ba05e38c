"""What a container on the process node finds: its environment, files, identity, processes and network."""

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processnode.network import unavailable

from .bench import Bench, open_bench, shell, state

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    weights = tmp_path_factory.mktemp("weights")
    (weights / "config.json").write_text("{}")
    with open_bench(image_volumes={"registry.example.com/weights:1": weights}) as opened:
        opened.config_map("settings", COLOR="red", SHAPE="round")
        secret = {"TOKEN": base64.b64encode(b"s3cret").decode()}
        opened.create({"kind": "Secret", "metadata": {"name": "keys"}, "data": secret})
        yield opened


def _from(kind: str, **reference: Any) -> dict[str, Any]:
    return {"valueFrom": {kind: reference}}


VARIABLES: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"value": "a b"}, "a b"),
    "refers-back": ({"value": "$(FIRST)-$(NOBODY)-$$(FIRST)"}, "1-$(NOBODY)-$(FIRST)"),
    "name": (_from("fieldRef", fieldPath="metadata.name"), "envs"),
    "namespace": (_from("fieldRef", fieldPath="metadata.namespace"), "pods"),
    "label": (_from("fieldRef", fieldPath="metadata.labels['app']"), "chat"),
    "node": (_from("fieldRef", fieldPath="spec.nodeName"), "node-local"),
    "account": (_from("fieldRef", fieldPath="spec.serviceAccountName"), "default"),
    "limit-in-mebibytes": (_from("resourceFieldRef", resource="limits.memory", divisor="1Mi"), "64"),
    "cpu-rounded-up": (_from("resourceFieldRef", resource="requests.cpu"), "1"),
    "config-map": (_from("configMapKeyRef", name="settings", key="COLOR"), "red"),
    "secret": (_from("secretKeyRef", name="keys", key="TOKEN"), "s3cret"),
    "optional": (_from("secretKeyRef", name="nobody", key="x", optional=True), "unset"),
}


@pytest.fixture(scope="module")
def variables(bench: Bench) -> dict[str, str]:
    """Every variable of the table, from one pod."""
    names = {f"V{i}": case for i, case in enumerate(VARIABLES)}
    env = [{"name": "FIRST", "value": "1"}]
    env += [{"name": name, **VARIABLES[case][0]} for name, case in names.items()]
    script = "; ".join(f'printf "%s\\n" "${{{name}-unset}}"' for name in names)
    resources = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m"}}
    main = shell("main", script, env=env, resources=resources)
    pod = bench.pod(main, name="envs", metadata={"labels": {"app": "chat"}}, restartPolicy="Never")
    bench.phase(pod, "Succeeded")
    return dict(zip(VARIABLES, bench.logs(pod, "main").splitlines(), strict=True))


@pytest.mark.parametrize("case", VARIABLES)
def test_a_variable_has_its_value(variables: Mapping[str, str], case: str) -> None:
    assert variables[case] == VARIABLES[case][1]


def test_addresses_are_those_of_the_status(bench: Bench) -> None:
    env = [{"name": name, **_from("fieldRef", fieldPath=f"status.{name}")} for name in ("podIP", "hostIP")]
    pod = bench.pod(shell("main", "echo $podIP $hostIP"), restartPolicy="Never")
    bench.delete(pod, 0)
    pod = bench.pod(shell("main", "echo $podIP $hostIP", env=env), restartPolicy="Never")
    status = bench.phase(pod, "Succeeded")["status"]
    assert bench.logs(pod, "main").split() == [status["podIP"], status["hostIP"]]


#: What a script prints, with the fields of the container and of the pod that it depends on.
INSIDE: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "arguments-are-expanded": ('echo "$0"', {"args": ["$(X)/$$(X)"], "env": [{"name": "X", "value": "1"}]}, {}, "1/$(X)"),
    "all-of-a-config-map": ("echo $S_COLOR $S_SHAPE", {"envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}]}, {}, "red round"),
    "all-of-a-secret": ("echo $TOKEN", {"envFrom": [{"secretRef": {"name": "keys"}}]}, {}, "s3cret"),
    "working-folder": ("pwd", {"workingDir": "/opt/made/for/it"}, {}, "/opt/made/for/it"),
    "process-1": ("echo $$$$", {}, {}, "1"),
    "nothing-of-the-test's-environment": ("echo ${PYTEST_CURRENT_TEST-none}", {}, {}, "none"),
    "host-name": ("hostname", {}, {"hostname": "chat-0"}, "chat-0"),
    "user-and-groups": (
        "id -u; id -g; id -G", {"securityContext": {"runAsUser": 1234}},
        {"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}}, "1234\n2\n2 3 4",
    ),
    "no-capabilities": (
        "grep -e CapBnd -e NoNewPrivs /proc/self/status | cut -f2",
        {"securityContext": {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}}, {}, "0000000000000000\n1",
    ),
    "read-only-root": ("touch /opt/x 2>/dev/null || echo refused; touch /dev/shm/x && echo ok",
                       {"securityContext": {"readOnlyRootFilesystem": True}}, {}, "refused\nok"),
    "shared-memory-of-64-mebibytes": ("df -m --output=size /dev/shm | tail -1 | tr -d ' '", {}, {}, "64"),
    "a-user's-home-does-not-hide-programs": (
        '"$PY" -c "import yaml; print(yaml.__name__)"', {"securityContext": {"runAsUser": 1000}}, {}, "yaml",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INSIDE)
def test_inside_a_container(bench: Bench, case: str) -> None:
    script, fields, spec, printed = INSIDE[case]
    fields = {**fields, "env": [*fields.get("env", ()), {"name": "PY", "value": sys.executable}]}
    assert bench.output(script, spec=spec, **fields).strip() == printed


def _files(source: Mapping[str, Any], script: str, printed: str, **mount: Any) -> tuple[Any, ...]:
    return source, mount, script, printed


VOLUMES: dict[str, tuple[Any, ...]] = {
    "config-map": _files({"configMap": {"name": "settings"}}, "cd /v; cat COLOR; stat -Lc %a COLOR", "red644"),
    "config-map-items": _files(
        {"configMap": {"name": "settings", "items": [{"key": "SHAPE", "path": "a/b", "mode": 0o400}]}},
        "cd /v; find . -name COLOR; cat a/b; stat -Lc %a a/b", "round400",
    ),
    "config-map-that-may-be-missing": _files({"configMap": {"name": "nobody", "optional": True}}, "ls /v", ""),
    "config-map-is-read-only": _files({"configMap": {"name": "settings"}}, "touch /v/x 2>&1 | grep -o Read-only", "Read-only"),
    "secret": _files({"secret": {"secretName": "keys", "defaultMode": 0o440}}, "cat /v/TOKEN; stat -Lc %a /v/TOKEN", "s3cret440"),
    "downward-api": _files(
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}, "cat /v/labels", 'app="chat"',
    ),
    "one-file-of-a-volume": _files({"configMap": {"name": "settings"}}, "cat /v", "red", subPath="COLOR"),
    "folder-of-a-volume-by-variable": _files({"emptyDir": {}}, "touch /v/x && ls /v", "x", subPathExpr="of-$(WHO)"),
    "read-only-mount": _files({"emptyDir": {}}, "touch /v/x 2>&1 | grep -o Read-only", "Read-only", readOnly=True),
    "memory-of-a-size": _files(
        {"emptyDir": {"medium": "Memory", "sizeLimit": "3Mi"}},
        "stat -fc %T /v; df -m --output=size /v | tail -1 | tr -d ' '; head -c 4M /dev/zero > /v/x 2>/dev/null || echo full", "tmpfs3full",
    ),
    "weights-from-an-image": _files({"image": {"reference": "registry.example.com/weights:1"}}, "cat /v/config.json", "{}"),
    "for-a-group": _files({"emptyDir": {}}, "stat -c %g /v; touch /v/x; stat -c %g /v/x", "2020"),
}  # fmt: skip


@pytest.mark.parametrize("case", VOLUMES)
def test_a_volume_holds(bench: Bench, case: str) -> None:
    source, mount, script, printed = VOLUMES[case]
    spec: dict[str, Any] = {"volumes": [{"name": "v", **source}]}
    if case == "for-a-group":
        spec["securityContext"] = {"runAsUser": 10, "fsGroup": 20}
    output = bench.output(
        script, spec=spec, metadata={"labels": {"app": "chat"}}, env=[{"name": "WHO", "value": "me"}],
        volumeMounts=[{"name": "v", "mountPath": "/v", **mount}],
    )  # fmt: skip
    assert output.replace("\n", "") == printed


def test_containers_of_a_pod_share_volumes_memory_and_network(bench: Bench) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "shm", "mountPath": "/dev/shm"}]
    before = shell("before", "echo disk > /v/a; echo memory > /dev/shm/b", volumeMounts=mounts)
    beside = {**shell("beside", "exec python3 -m http.server 7000"),
              "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 7000}, "periodSeconds": 1}}  # fmt: skip
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]
    script = "cat /v/a /dev/shm/b; python3 -c \"import socket; socket.create_connection(('127.0.0.1', 7000)); print('met')\""
    output = bench.output(script, before=[before, beside], spec={"volumes": volumes}, volumeMounts=mounts)
    assert output.split() == ["disk", "memory", "met"]


def test_what_a_container_writes_stays_there(bench: Bench) -> None:
    marker = Path("/opt/processnode-test-marker")
    assert bench.output(f"echo x > {marker}; cat {marker}").strip() == "x"
    assert not marker.exists()
    assert bench.output(f"cat {marker} 2>/dev/null || echo gone").strip() == "gone"


def test_a_config_map_reaches_a_running_container_when_it_changes(bench: Bench) -> None:
    bench.config_map("changing", key="old")
    follow = "while [ $(cat /v/key) = old ]; do sleep 0.05; done; cat /v/key"
    pod = bench.pod(
        shell("main", follow, volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", "configMap": {"name": "changing"}}], restartPolicy="Never",
    )  # fmt: skip
    bench.wait(pod, lambda obj: "running" in state(obj, "main").get("state", {}))
    path = f"/api/v1/namespaces/{bench.namespace}/configmaps/changing"
    bench.api.call("PATCH", path, {"data": {"key": "new"}}, content="application/merge-patch+json")
    bench.phase(pod, "Succeeded")
    assert bench.logs(pod, "main").strip() == "new"


WHO_AM_I = """
import json, os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
review = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()
request = urllib.request.Request(url + "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
request.add_header("Authorization", "Bearer " + open(folder + "token").read())
request.add_header("Content-Type", "application/json")
with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "ca.crt")) as answer:
    print(json.load(answer)["status"]["userInfo"]["username"], open(folder + "namespace").read())
"""


def test_a_pod_speaks_to_the_api_server_as_its_service_account(bench: Bench) -> None:
    output = bench.output('python3 -c "$CODE"', env=[{"name": "CODE", "value": WHO_AM_I}])
    assert output.split() == ["system:serviceaccount:pods:default", "pods"]


def test_a_token_is_for_the_audience_that_was_asked(bench: Bench) -> None:
    source = {"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}}
    output = bench.output(
        "cat /v/t", spec={"volumes": [{"name": "v", "projected": {"sources": [source]}}]},
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )  # fmt: skip
    claims = output.strip().split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert said["aud"] == ["vault"]
    assert said["exp"] - said["iat"] == 600


def test_a_claim_is_bound_and_keeps_its_files_between_pods(bench: Bench) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    bench.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}, "spec": spec})
    volumes = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "kept"}}]}
    mounts = [{"name": "v", "mountPath": "/v"}]
    bench.output("echo weights > /v/w", spec=volumes, volumeMounts=mounts)
    assert bench.output("cat /v/w", spec=volumes, volumeMounts=mounts).strip() == "weights"
    assert (bench.node.claim_folder("pods", "kept") / "w").read_text().strip() == "weights"


def test_a_command_runs_inside_a_container(bench: Bench) -> None:
    pod = bench.pod(shell("main", "X=1 exec sleep 1000", env=[{"name": "OF", "value": "it"}]))
    bench.ready(pod)
    assert bench.node.exec("pods", pod, "main", ["sh", "-c", "echo $OF; hostname; exit 3"]) == (
        3,
        f"it\n{pod}\n",
    )
    code, _ = bench.node.exec("pods", pod, "main", ["sleep", "1000"], timeout_s=0.2)
    assert code == 137
