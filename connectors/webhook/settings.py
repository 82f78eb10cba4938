"""The settings of one webhook target."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from yarl import URL

from connectors.contract import Settings
from connectors.network import AddressGuard

_OWN_HEADERS = frozenset(
    {
        "content-type",
        "content-length",
        "host",
        "connection",
        "transfer-encoding",
        "x-jws-signature",
        "traceparent",
    }
)


def _header_name(name: str) -> str:
    token = name.lower()
    if not token or not all(c.isascii() and (c.isalnum() or c in "-_") for c in token):
        raise ValueError("a header name holds letters, digits, - and _ only")
    if token in _OWN_HEADERS or token.startswith(("webhook-", "ce-")):
        raise ValueError("this header is set by the hub")
    return name


class WebhookSettings(Settings):
    """Where to post, how to sign, and what counts as taken."""

    url: str = Field(max_length=2000)
    """The endpoint, `https://…`; `http` only as far as `allow_plain_http` or `allow_private_networks` say."""
    mode: Literal["structured", "binary"] = "structured"
    """CloudEvents content mode. Binary mode leaves `subject` out, because it may name a person and headers are logged."""
    signing: Literal["hmac", "es256", "none"] = "hmac"
    """`hmac` (shared secrets), `es256` (detached JWS), or `none` when mutual TLS or a token already proves the sender."""
    signed_content: Literal["hub", "standard-webhooks"] = "hub"
    """What `hmac` covers: `v1:{id}:{timestamp}:{body}`, or `{id}.{timestamp}.{body}` for the Standard Webhooks libraries."""
    secrets: tuple[SecretStr, ...] = Field(default=(), max_length=4)
    """Signing secrets, newest first; while two are listed both sign, so that receivers can change over."""
    private_key: SecretStr | None = None
    """PEM of the P-256 private key for `es256`."""
    key_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """The `kid` by which receivers find the public key of `private_key`."""
    bearer_token: SecretStr | None = None
    """Sent as `Authorization: Bearer …`."""
    secret_headers: dict[Annotated[str, AfterValidator(_header_name)], SecretStr] = Field(
        default_factory=dict, max_length=16
    )
    """Further headers whose values are secret, such as an API key."""
    allow_private_networks: tuple[IPvAnyNetwork, ...] = Field(default=(), max_length=64)
    """Private networks (CIDR) this target may lie in; everything that is not public is refused otherwise."""
    allow_plain_http: bool = False
    """Allow `http://` to public addresses; the message then travels in clear."""
    ca_file: Path | None = None
    """PEM file of the authorities trusted for this target in place of the system's."""
    client_cert_file: Path | None = None
    """PEM file of the certificate the hub shows (mutual TLS)."""
    client_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    connections: int = Field(default=32, ge=1, le=1000)
    """How many connections may be open at once."""
    connect_timeout: float = Field(default=5.0, ge=0.05, le=60)
    """Seconds for name look-up, connection and TLS."""
    retry_after_limit: float = Field(default=3600.0, ge=1, le=86400)
    """Seconds; a longer `Retry-After` of the target is cut to this."""
    conflict_is_repeat: bool = False
    """Take 409 as the target's word that it has the message already."""
    recognises_repeats: bool = True
    """Whether the receiver acts once on a repeated `webhook-id`; if not, whatever leaves the outcome open waits for a person."""
    reference_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Reply header that holds the target's own id of the message."""
    probe_method: Literal["OPTIONS", "HEAD", "GET"] = "OPTIONS"
    """How the endpoint is asked whether it is there; any answer below 500 will do."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        url = URL(value)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("must be an http or https address with a host")
        if url.user or url.password:
            raise ValueError("must not hold a login; use bearer_token or secret_headers")
        if url.fragment:
            raise ValueError("must not hold a fragment")
        return value

    @field_validator("secrets")
    @classmethod
    def _check_secrets(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(secret.get_secret_value()) < 24 for secret in value):
            raise ValueError("each secret needs at least 24 characters")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> WebhookSettings:
        if self.signing == "hmac" and not self.secrets:
            raise ValueError("signing: hmac needs at least one entry in secrets")
        if self.signing == "es256" and not (self.private_key and self.key_id):
            raise ValueError("signing: es256 needs private_key and key_id")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together")
        if not self.is_https and not self.allow_plain_http and not self.allow_private_networks:
            raise ValueError("plain http needs allow_private_networks or allow_plain_http")
        host = URL(self.url).host or ""
        if _is_address(host) and not self.guard().permits(host):
            raise ValueError("url leads to an address the hub may not reach; see allow_private_networks")
        return self

    @property
    def is_https(self) -> bool:
        """Whether the endpoint is reached by TLS."""
        return URL(self.url).scheme == "https"

    def guard(self) -> AddressGuard:
        """Return the guard that says which addresses this target may have."""
        only_allowed = not self.is_https and not self.allow_plain_http
        return AddressGuard(map(str, self.allow_private_networks), only_allowed=only_allowed)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
