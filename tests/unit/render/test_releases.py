"""render.releases: the data is whole, and an unknown release is refused with what there is."""

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.render.releases import load_release, release_names


def test_the_releases_that_ship() -> None:
    assert release_names() == ("gie-1.5", "llm-d-0.10")


@pytest.mark.parametrize("name", release_names())
def test_a_release_is_whole(name: str) -> None:
    release = load_release(name)
    assert release.name == name
    assert release.image.endswith(f":{release.version}")
    assert release.fairness_plugin in release.plugins
    assert set(release.fairness_parameters) <= release.plugins[release.fairness_plugin].parameters
    assert set(release.parsers) <= set(release.plugins)
    assert "flowControl" in release.feature_gates
    assert (release.sidecar is None) == ("Disaggregation" in release.lacks)
    assert all(name.islower() for name in (release.headers.fairness, release.headers.objective))


def test_an_unknown_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"endpointPicker\.release.*gie-1\.5, llm-d-0\.10"):
        load_release("llm-d-9.9")
