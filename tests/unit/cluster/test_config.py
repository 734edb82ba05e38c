"""cluster.config: which configuration is used, and what is said where none is usable."""

from pathlib import Path

import pytest
import yaml

from agentic_serving.cluster.config import load_configuration
from agentic_serving.errors import InvalidInput


def kubeconfig(
    folder: Path, name: str, *, current: str | None = "one", user: dict[str, str] | None = None
) -> str:
    contexts = [{"name": n, "context": {"cluster": n, "user": "u"}} for n in ("one", "two")]
    clusters = [{"name": n, "cluster": {"server": f"http://{n}.{name}.example"}} for n in ("one", "two")]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "contexts": contexts,
        "clusters": clusters,
        "users": [{"name": "u", "user": user or {"token": "t"}}],
    } | ({"current-context": current} if current else {})
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a cluster."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


async def test_the_given_file_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, "env"))
    assert (await load_configuration(None, None)).host == "http://one.env.example"
    given = kubeconfig(tmp_path, "given")
    assert (await load_configuration(given, None)).host == "http://one.given.example"
    assert (await load_configuration(given, "two")).host == "http://two.given.example"


async def test_a_home_directory_is_the_last_resort(tmp_path: Path) -> None:
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    kubeconfig(tmp_path / "home" / ".kube", "config")
    assert (await load_configuration(None, None)).host == "http://one.config.example"


async def test_nothing_found_says_what_was_tried() -> None:
    with pytest.raises(InvalidInput, match="KUBECONFIG is not set, this is not a pod"):
        await load_configuration(None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ("apiVersion: v1", "cannot be used"),
    ],
    ids=["missing", "no yaml", "a list", "empty"],
)
async def test_a_bad_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        await load_configuration(str(path), None)
    assert str(path) in str(caught.value)


async def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"context three of .*: .*three"):
        await load_configuration(kubeconfig(tmp_path, "given"), "three")


async def test_a_file_without_a_current_context_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="current-context"):
        await load_configuration(kubeconfig(tmp_path, "given", current=None), None)


async def test_a_pod_without_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(InvalidInput, match=r"service account: .*token"):
        await load_configuration(None, None)


async def test_a_token_file_is_read_again_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    configuration = await load_configuration(
        kubeconfig(tmp_path, "given", user={"tokenFile": str(token)}), None
    )

    async def sent() -> str | None:
        return (await configuration.auth_settings())["BearerToken"]["value"]

    token.write_text("new")
    assert await sent() == "Bearer old"
    monkeypatch.setattr(configuration.refresh_api_key_hook, "_due_s", 0.0)
    assert await sent() == "Bearer new"
