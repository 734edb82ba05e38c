"""Keys, tokens and kubeconfig files of a cluster that lives for one test run."""

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["ADMIN", "kubeconfig_text", "new_tokens", "token_file_text", "write_private", "write_signing_key"]

ADMIN = "admin"


def new_tokens(*users: str) -> dict[str, str]:
    """A random bearer token for each user name."""
    return {user: secrets.token_hex(16) for user in users}


def token_file_text(tokens: Mapping[str, str]) -> str:
    """Contents for `--token-auth-file`: token, user, uid, groups.

    Every user is in system:masters; separate names let the audit log tell the components apart.
    """
    return "".join(f'{token},{user},{user},"system:masters"\n' for user, token in tokens.items())


def write_signing_key(private: Path, public: Path) -> None:
    """A fresh key pair with which the API server signs service account tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    write_private(private, pem.decode())
    spki = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(public, spki.decode())


def write_private(path: Path, text: str) -> Path:
    """Write a file only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def kubeconfig_text(*, url: str, token: str, ca_pem: bytes | None, namespace: str = "default") -> str:
    """A kubeconfig that stands alone; JSON, which is YAML. No CA for a plain-HTTP proxy."""
    cluster = {"server": url}
    if ca_pem is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca_pem).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [
            {"name": "local", "context": {"cluster": "local", "user": "user", "namespace": namespace}}
        ],
        "current-context": "local",
    }
    return json.dumps(document, indent=1)
