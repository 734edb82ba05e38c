"""processnode.hosts: which names a pod sees, and files that readers never find half written."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processnode.follow import Objects
from tests.e2e.processnode.hosts import PATHS, HostsFiles, Reader, hosts_text


def _services(**addresses: str) -> Objects:
    return {("shop", name): {"spec": {"clusterIP": address}} for name, address in addresses.items()}


def _slice(service: str, *endpoints: dict[str, Any], namespace: str = "shop") -> Objects:
    labels = {"kubernetes.io/service-name": service}
    return {(namespace, f"{service}-1"): {"metadata": {"labels": labels}, "endpoints": list(endpoints)}}


def _names(services: Objects, slices: Objects, reader: Reader) -> dict[str, set[str]]:
    """Name to addresses, as a resolver reads the file; the machine's own names aside."""
    found: dict[str, set[str]] = {}
    for line in hosts_text(services, slices, reader).splitlines():
        address, *names = line.split()
        for name in names:
            found.setdefault(name, set()).add(address)
    return {name: addresses for name, addresses in found.items() if name not in MACHINES_OWN}


MACHINES_OWN = {"localhost", "ip6-localhost", "ip6-loopback"}
LONG = ("web.shop", "web.shop.svc", "web.shop.svc.cluster.local")


@pytest.mark.parametrize(
    ("namespace", "names"),
    [("shop", ("web", *LONG)), ("elsewhere", LONG)],
    ids=["own namespace", "another"],
)
def test_short_names_are_those_of_the_readers_namespace(namespace: str, names: tuple[str, ...]) -> None:
    found = _names(_services(web="198.19.0.9"), {}, Reader(namespace=namespace))
    assert found == {name: {"198.19.0.9"} for name in names}


def test_a_headless_service_is_its_ready_pods() -> None:
    slices = _slice(
        "web",
        {"addresses": ["198.18.0.3"], "conditions": {"ready": True}, "hostname": "web-0"},
        {"addresses": ["198.18.0.4"], "conditions": {"ready": False}},
        {"addresses": ["198.18.0.5"], "conditions": {}},  # unknown counts as ready
    )
    found = _names(_services(web="None"), slices, Reader(namespace="shop"))
    assert found["web"] == {"198.18.0.3", "198.18.0.5"}
    assert found["web-0.web.shop.svc.cluster.local"] == {"198.18.0.3"}


@pytest.mark.parametrize(
    "slices",
    [
        {},
        _slice("other", {"addresses": ["198.18.0.3"]}),
        _slice("web", {"addresses": ["198.18.0.3"]}, namespace="b"),
    ],
    ids=["no slice", "another service's", "another namespace's"],
)
def test_a_headless_service_without_pods_has_no_name(slices: Objects) -> None:
    assert _names(_services(web="None"), slices, Reader(namespace="shop")) == {}


def test_a_pod_knows_its_own_name_and_localhost() -> None:
    text = hosts_text({}, {}, Reader(namespace="shop", hostname="web-0", address="198.18.0.3"))
    assert text.splitlines()[-1] == "198.18.0.3 web-0"
    assert "127.0.0.1 localhost" in text.splitlines()


def test_files_follow_in_place(tmp_path: Path) -> None:
    files = HostsFiles(tmp_path)
    reader = Reader(namespace="shop")
    files.changed({PATHS[0]: _services(web="198.19.0.9", other="198.19.0.10"), PATHS[1]: {}})
    path = files.add("hosts", reader)
    inode = path.stat().st_ino
    files.changed({PATHS[0]: _services(web="198.19.0.9"), PATHS[1]: {}})
    assert path.read_text() == hosts_text(_services(web="198.19.0.9"), {}, reader)
    assert path.stat().st_ino == inode, "a bind mount holds on to the old inode"
    files.remove("hosts")
    assert not path.exists()
