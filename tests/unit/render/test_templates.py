"""render.templates: values enter as JSON only, and YAML reads them back as they were."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader

from agentic_serving.assets import templates_dir
from agentic_serving.errors import Bug
from agentic_serving.render import templates
from agentic_serving.render.templates import fill, to_json

FILES = sorted((templates_dir() / "manifests").glob("*.j2"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_yaml_reads_json_back_as_it_was(value: object) -> None:
    assert yaml.load(f"key: {to_json(value)}\n", Loader=yaml.CSafeLoader) == {"key": value}


@pytest.mark.parametrize(
    "text",
    ["yes", "1e3", "~", "- a", "{a: b}", "#", "\x7f", "\x85", "\U0001f600", "a\nb: c", "{{ 7*7 }}", "%n"],
    ids=ascii,
)
def test_text_that_yaml_has_a_meaning_for_stays_text(text: str) -> None:
    body = fill("config_map", metadata={"name": text}, data={text: text})
    assert body["metadata"] == {"name": text}
    assert body["data"] == {text: text}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_expression_ends_in_tojson(file: Path) -> None:
    expressions = re.findall(r"\{\{(.*?)\}\}", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [e for e in expressions if not re.fullmatch(r"\s*[a-z_]+ \| tojson\s*", e)] == []


@pytest.fixture
def wrong_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates as nobody should write them, in place of the real ones."""
    environment = templates._environment().overlay(
        loader=DictLoader(
            {
                "raw.yaml.j2": "key: {{ value }}",
                "missing.yaml.j2": "key: {{ other | tojson }}",
                "list.yaml.j2": "- {{ value | tojson }}",
                "broken.yaml.j2": "key: [{{ value | tojson }}",
            }
        )
    )
    monkeypatch.setattr(templates, "_template", lambda name: environment.get_template(f"{name}.yaml.j2"))


@pytest.mark.usefixtures("wrong_templates")
@pytest.mark.parametrize("name", ["raw", "missing", "list", "broken"])
def test_a_wrong_template_is_refused(name: str) -> None:
    with pytest.raises(Bug, match=name):
        fill(name, value="a")
