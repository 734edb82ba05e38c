"""cli.load: what counts as input, in which order, and what is refused by name."""

import io
import json
from pathlib import Path

import pytest

from agentic_serving.cli.load import load
from agentic_serving.errors import InvalidInput

OURS = {"apiVersion": "agentic-serving.dev/v1alpha1", "kind": "KVTierPolicy", "metadata": {"name": "p"}}
OTHER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}


@pytest.mark.parametrize(
    ("text", "labels", "others"),
    [
        (json.dumps(OURS), ["KVTierPolicy/p"], 0),
        (f"{json.dumps(OTHER)}\n---\n{json.dumps(OURS)}", ["KVTierPolicy/p"], 1),
        (json.dumps({"kind": "List", "items": [OURS, OTHER, OURS]}), ["KVTierPolicy/p"] * 2, 1),
        (f"---\n---\n{json.dumps(OURS)}\n---\n", ["KVTierPolicy/p"], 0),
        ('{"apiVersion": "agentic-serving.dev/v9", "kind": "X"}', ["X/?"], 0),
        ("", [], 0),
    ],
    ids=["json", "two documents", "list", "empty documents", "no metadata", "empty"],
)
def test_standard_input(text: str, labels: list[str], others: int) -> None:
    loaded = load(["-"], stdin=io.StringIO(text))
    assert [d.label for d in loaded.documents] == labels
    assert loaded.others == others


def test_a_folder_is_read_recursively_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/z.yml", "a/y.json", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**OURS, "metadata": {"name": name}}))
    names = [d.body["metadata"]["name"] for d in load([str(tmp_path)]).documents]
    assert names == ["a/y.json", "a/z.yml", "b.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1\n- 2\n", "holds a list where an object was expected"),
        ("just words", "holds a str where an object was expected"),
        ("a: !!python/object/apply:os.system [true]", "is not valid YAML"),
    ],
    ids=["broken", "list", "text", "code"],
)
def test_what_is_no_object_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=f"bad.yaml: {message}"):
        load([str(path)])


def test_a_path_that_does_not_exist_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml: does not exist"):
        load([str(tmp_path / "nowhere.yaml")])
    with pytest.raises(InvalidInput, match="holds no"):
        load([str(tmp_path)])
