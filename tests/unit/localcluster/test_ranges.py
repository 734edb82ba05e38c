"""localcluster.ranges: no address twice, also while several processes choose."""

import ipaddress
import itertools
from pathlib import Path

import pytest

from tests.e2e.localcluster import ranges
from tests.e2e.localcluster.ranges import MAX_CLUSTERS, Claim, NoRange, Ranges


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranges, "_LOCKS", tmp_path / "locks")
    monkeypatch.setattr(ranges, "_routed", list)


def test_no_two_ranges_overlap_and_all_are_for_benchmarks() -> None:
    every = [
        net for i in range(MAX_CLUSTERS) for net in (Ranges.numbered(i).pods, Ranges.numbered(i).services)
    ]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(every, 2))
    assert all(net.subnet_of(ipaddress.IPv4Network("198.18.0.0/15")) for net in every)


def test_pods_get_neither_the_nodes_nor_the_hosts_address() -> None:
    one = Ranges.numbered(3)
    addresses = {ipaddress.IPv4Address(number) for number in one.addresses}
    assert len(addresses) == 252
    assert addresses.isdisjoint({one.node, one.host, one.pods.network_address, one.pods.broadcast_address})


def test_claims_differ_until_released() -> None:
    first, second = Claim(), Claim()
    assert first.ranges != second.ranges
    first.release()
    third = Claim()
    assert third.ranges == first.ranges
    third.release()
    second.release()


def test_what_the_machine_has_routes_to_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_routed", lambda: [ipaddress.IPv4Network("198.19.0.128/25")])
    claim = Claim()
    assert claim.ranges == Ranges.numbered(1)
    claim.release()
    monkeypatch.setattr(ranges, "_routed", lambda: [ipaddress.IPv4Network("198.0.0.0/8")])
    with pytest.raises(NoRange, match="ip route"):
        Claim()
