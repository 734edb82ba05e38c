"""credentials: files that the API server and its clients read."""

import json
import ssl
from base64 import b64decode
from pathlib import Path

from tests.e2e.localcluster import credentials


def test_a_kubeconfig_stands_alone() -> None:
    text = credentials.kubeconfig_text(url="https://127.0.0.1:1", token="t", ca_pem=b"PEM", namespace="n")
    document = json.loads(text)
    assert b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]) == b"PEM"
    assert document["users"][0]["user"] == {"token": "t"}
    assert document["contexts"][0]["context"]["namespace"] == "n"


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = credentials.write_private(tmp_path / "token", "secret")
    assert path.stat().st_mode & 0o077 == 0


def test_tokens_are_random_and_name_their_user() -> None:
    tokens = credentials.new_tokens("admin", "kwok")
    assert len(set(tokens.values())) == 2
    assert f'{tokens["kwok"]},kwok,kwok,"system:masters"' in credentials.token_file_text(tokens).splitlines()


def test_the_loopback_certificate_is_its_own_authority(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    credentials.write_loopback_certificate(key, certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cadata=certificate.read_text())
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    into_client, into_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        (client.wrap_bio(into_client, into_server, server_hostname="127.0.0.1"), "client"),
        (server.wrap_bio(into_server, into_client, server_side=True), "server"),
    ]
    done: set[str] = set()
    for _ in range(6):  # a TLS 1.3 handshake takes three flights
        for end, name in ends:
            try:
                end.do_handshake()
                done.add(name)
            except ssl.SSLWantReadError:
                continue
    assert done == {"client", "server"}
