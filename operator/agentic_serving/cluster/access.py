"""How to reach the API server, as plain values: for a second HTTP client in the same process (kopf's)."""

from dataclasses import dataclass

from kubernetes.aio.client import Configuration

__all__ = ["Access", "access_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Address, trust and credentials at this moment. Tokens expire: ask again when one is refused."""

    server: str
    ca_file: str | None = None
    ca_data: str | bytes | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    authorization: str = ""  # value of the header, such as `Bearer ...`
    proxy: str | None = None


async def access_of(configuration: Configuration) -> Access:
    """What the client's configuration holds, with short-lived tokens made fresh."""
    token = (await configuration.auth_settings()).get("BearerToken")
    return Access(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        cert_file=configuration.cert_file,
        key_file=configuration.key_file,
        verify=configuration.verify_ssl,
        authorization=(token["value"] or "") if token else "",
        proxy=configuration.proxy,
    )
