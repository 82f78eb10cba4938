"""The settings of one G2P Connect target: where it is, who the hub is there, and the bounds of what is under way."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from yarl import URL

from connectors.contract import Settings
from connectors.g2p_connect.disburse_addresses import account_of
from connectors.network import AddressGuard
from registry.signing import KeyRefused, keys_of_set


class PayeeMapper(Settings):
    """Another system's account mapper at which payees are resolved before they are paid, with a login and keys of its own."""

    url: str = Field(max_length=2000)
    """Its base address; `/mapper/sync/resolve` is appended, or `/mapper/resolve` with `callbacks`."""
    callbacks: bool = False
    """Whether it answers by callback, to the target's callback_url; needs that and peer_jwks."""
    receiver_id: str | None = Field(default=None, max_length=200)
    """Its own id (`header.receiver_id`)."""
    peer_jwks: dict[str, Any] = Field(default_factory=dict)
    """Its public keys (JWK set); with them an answer they did not sign is not believed."""
    bearer_token: SecretStr | None = None
    """A token sent as it is."""
    token_url: str | None = Field(default=None, max_length=2000)
    """Where a token is had by OAuth 2 client credentials."""
    client_id: str | None = Field(default=None, max_length=200)
    """The hub's client id there."""
    client_secret: SecretStr | None = None
    """That client's secret."""
    items: int = Field(default=100, ge=1, le=1000)
    """Payees asked about in one message."""


class DisburseSettings(Settings):
    """Where orders go, from which account they are paid, and when what is asked."""

    url: str = Field(max_length=2000)
    """Base address of the system; `/disburse` and the other paths are appended."""
    mapper_url: str | None = Field(default=None, max_length=2000)
    """Base address of the system's account mapper; `/mapper/sync/resolve` and the other paths are appended."""
    mapper_callbacks: bool = False
    """Whether the mapper answers by callback (`/mapper/resolve`) in place of at once; needs callback_url and peer_jwks."""
    mapper: PayeeMapper | None = None
    """Where payees without an account are resolved to the address they are paid at; none: the system itself knows them."""
    sender_id: str = Field(min_length=1, max_length=200)
    """The hub's id there (`header.sender_id`)."""
    receiver_id: str | None = Field(default=None, max_length=200)
    """The system's own id (`header.receiver_id`)."""
    payer_fa: str = Field(max_length=200)
    """Financial address of the account that pays, `type:id@provider`, for orders that name none."""
    payee_ids: dict[str, str] = Field(default_factory=dict, max_length=20)
    """For payees without an account: id type of the registry to `type@provider`, such as `UIN: vid@nid`."""
    callback_url: str | None = Field(default=None, max_length=2000)
    """The hub's own address for this target, `https://HUB/callbacks/TARGET`; none: the hub only asks."""
    signing_key: SecretStr | None = None
    """P-256 private key (PEM) with which messages are signed as compact JWS; none: they go unsigned."""
    peer_jwks: dict[str, Any] = Field(default_factory=dict)
    """The system's public keys (JWK set): a callback they sign is believed, any other only makes the hub ask."""
    bearer_token: SecretStr | None = None
    """A token sent as it is."""
    token_url: str | None = Field(default=None, max_length=2000)
    """Where a token is had by OAuth 2 client credentials."""
    client_id: str | None = Field(default=None, max_length=200)
    """The hub's client id there."""
    client_secret: SecretStr | None = None
    """That client's secret."""
    message_items: int = Field(default=100, ge=1, le=1000)
    """Payments of one batch in one message."""
    window: int = Field(default=2000, ge=1, le=100_000)
    """Payments under way per payee institution."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Requests made at the same time."""
    first_ask: float = Field(default=30.0, ge=0.01, le=86_400)
    """Seconds from an order to the first question; later ones are twice as far apart each."""
    longest_ask: float = Field(default=900.0, ge=0.01, le=86_400)
    """Most seconds between two questions."""
    asks: int = Field(default=100, ge=1, le=100_000)
    """Questions after which a payment becomes unknown."""
    ca_file: Path | None = None
    """PEM file of the authorities trusted for this target in place of the system's."""
    client_cert_file: Path | None = None
    """PEM file of the certificate the hub shows (mutual TLS)."""
    client_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    allow_private_networks: tuple[IPvAnyNetwork, ...] = Field(default=(), max_length=64)
    """Private networks (CIDR) this target may lie in; everything that is not public is refused otherwise."""
    connect_timeout: float = Field(default=5.0, ge=0.05, le=60)
    """Seconds for name look-up, connection and TLS."""
    request_timeout: float = Field(default=30.0, ge=0.05, le=600)
    """Seconds until a request must be answered."""
    retry_after_limit: float = Field(default=300.0, ge=1, le=86_400)
    """Seconds; a longer `Retry-After` is cut to this."""

    @field_validator("url", "mapper_url", "token_url", "callback_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = URL(value)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("must be an http or https address with a host")
        if url.user or url.password or url.fragment or url.query_string:
            raise ValueError("must hold neither login, query nor fragment")
        return value.rstrip("/")

    @field_validator("payer_fa")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if account_of(value) is None:
            raise ValueError("a financial address is written type:id@provider")
        return value

    @field_validator("payee_ids")
    @classmethod
    def _check_ids(cls, value: dict[str, str]) -> dict[str, str]:
        if any(account_of(form.replace("@", ":1@")) is None for form in value.values()):
            raise ValueError("each id type has a form type@provider")
        return value

    @field_validator("peer_jwks")
    @classmethod
    def _check_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value:
            try:
                usable = keys_of_set(value)
            except KeyRefused as error:
                raise ValueError(str(error)) from None
            if not usable:
                raise ValueError("holds no key that can be used")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together")
        if self.token_url is not None and not (self.client_id and self.client_secret):
            raise ValueError("token_url needs client_id and client_secret")
        if self.token_url is not None and self.bearer_token is not None:
            raise ValueError("token_url and bearer_token exclude each other")
        if self.mapper_callbacks and not (self.callback_url and self.peer_jwks):
            raise ValueError("mapper_callbacks needs callback_url and peer_jwks")
        for address in self.addresses():
            url = URL(address)
            if url.scheme != "https" and not self.allow_private_networks:
                raise ValueError("plain http needs allow_private_networks")
            if _is_address(url.host or "") and not self.guard().permits(url.host or ""):
                raise ValueError("an address the hub may not reach; see allow_private_networks")
        return self

    @model_validator(mode="after")
    def _check_mapper(self) -> Self:
        if self.mapper is not None:
            if not self.payee_ids:
                raise ValueError("mapper needs payee_ids, which say the ids it knows")
            self.resolving()
        return self

    def resolving(self) -> DisburseSettings | None:
        """Return the settings by which `mapper` is called: its address, login and keys, and everything else as here."""
        if self.mapper is None:
            return None
        theirs = {name: getattr(self.mapper, name) for name in type(self.mapper).model_fields}
        callbacks = theirs.pop("callbacks")
        del theirs["items"]
        ours = {name: getattr(self, name) for name in type(self).model_fields if name not in theirs}
        # The token of the one system never goes to the other: what `mapper` leaves out is left out.
        changed = {"mapper": None, "mapper_url": self.mapper.url, "mapper_callbacks": callbacks}
        return DisburseSettings.model_validate({**ours, **theirs, **changed})

    def addresses(self) -> list[str]:
        """Return the addresses the hub calls."""
        return [address for address in (self.url, self.mapper_url, self.token_url) if address is not None]

    def guard(self) -> AddressGuard:
        """Return the guard that says which addresses this target may have."""
        plain = any(URL(address).scheme != "https" for address in self.addresses())
        return AddressGuard(map(str, self.allow_private_networks), only_allowed=plain)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
