"""Keys, tokens and kubeconfig files of a cluster that lives for one test run."""

import base64
import datetime
import ipaddress
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
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
    write_private(private, _pem(key))
    spki = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(public, spki.decode())


def write_loopback_certificate(key_file: Path, certificate_file: Path) -> None:
    """A key and a certificate for 127.0.0.1 that is its own CA, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agentic-serving test proxy")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks of one machine agree; VMs may step
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_file, _pem(key))
    write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM).decode())


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def write_private(path: Path, text: str) -> Path:
    """Write a file only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def kubeconfig_text(*, url: str, token: str, ca_pem: bytes, namespace: str = "default") -> str:
    """A kubeconfig that stands alone; JSON, which is YAML."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
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
