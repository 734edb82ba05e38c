"""nodes: fake nodes carry what the scheduler looks at."""

from tests.e2e.localcluster.nodes import DEFAULT_NODES, manifest, numbered


def test_numbered_nodes_take_the_presets_in_turn_under_names_of_their_own() -> None:
    names = [str(spec["name"]) for spec in numbered(7)]
    assert len(set(names)) == 7
    assert names[0].startswith(str(DEFAULT_NODES[0]["name"]))
    assert names[5].startswith(str(DEFAULT_NODES[0]["name"]))


def test_a_spec_adds_to_the_base_and_wins_over_it() -> None:
    node = manifest(
        {
            "name": "x",
            "labels": {"a": "b"},
            "capacity": {"cpu": "2", "amd.com/gpu": "8"},
            "taints": [{"key": "k", "effect": "NoSchedule"}],
        }
    )
    assert node["metadata"]["labels"]["a"] == "b"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "x"
    assert node["status"]["allocatable"] == node["status"]["capacity"]
    assert node["status"]["capacity"] | {"cpu": "2", "amd.com/gpu": "8"} == node["status"]["capacity"]
    assert "memory" in node["status"]["capacity"]
    assert node["spec"]["taints"] == [{"key": "k", "effect": "NoSchedule"}]
