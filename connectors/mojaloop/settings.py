"""The settings of one Mojaloop target: a scheme the payer's institution takes part in, or that institution's scheme adapter."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from yarl import URL

from connectors.contract import Settings
from connectors.mojaloop.formats import FSP_ID, PARTY_TYPES, PERSONAL_ID_TYPES
from connectors.mojaloop.headers import RESOURCES
from connectors.network import AddressGuard

_URL = Field(default=None, max_length=2000)


class MojaloopSettings(Settings):
    """Where the scheme is, who the payer is, how messages are signed, and what may be paid."""

    mode: Literal["scheme", "adapter"] = "scheme"
    """`scheme`: speak FSPIOP to the switch. `adapter`: let the institution's SDK scheme adapter do so."""
    url: str = Field(max_length=2000)
    """Base address of the switch (or of the adapter's outbound API)."""
    parties_url: str | None = _URL
    """Base address for `/parties`, where it differs from `url`."""
    quotes_url: str | None = _URL
    """Base address for `/quotes` and `/bulkQuotes`, where it differs from `url`."""
    transfers_url: str | None = _URL
    """Base address for `/transfers`, `/bulkTransfers` and `/bulkTransactions`, where it differs from `url`."""
    version: Literal["1.1", "2.0", "iso20022"] = "1.1"
    """The form of the messages: FSPIOP 1.1, FSPIOP 2.0, or the ISO 20022 form of 2.0."""
    resource_versions: dict[str, str] = Field(default_factory=dict)
    """Version of single resources that differs, for example `transfers: "1.0"`."""
    payer_fsp: str = Field(pattern=rf"^{FSP_ID.pattern}$")
    """The id of the payer's institution in the scheme."""
    payer_id_type: str = "BUSINESS"
    """Type of the payer's own identifier."""
    payer_id: str = Field(min_length=1, max_length=128)
    """The payer's own identifier, for example the ministry's."""
    payer_sub_id: str | None = Field(default=None, min_length=1, max_length=128)
    """Its sub id, for example the program."""
    payer_name: str | None = Field(default=None, min_length=1, max_length=128)
    """The payer's name as the payee may see it."""
    amount_type: Literal["RECEIVE", "SEND"] = "RECEIVE"
    """`RECEIVE`: the payee gets exactly the amount, fees on top. `SEND`: exactly the amount leaves the payer."""
    fee_limit: int = Field(default=0, ge=0)
    """Most that a payment may cost on top of its amount (RECEIVE) or arrive short of it (SEND), in minor units."""
    fee_limit_percent: float = Field(default=0.0, ge=0, le=100)
    """The same as a part of the amount; the larger of the two limits holds."""
    sub_scenario: str | None = Field(default=None, pattern=r"^[A-Z_]{1,32}$")
    """Sub scenario agreed with the scheme, for example `SOCIAL_BENEFIT`."""
    balance_of_payments: str | None = Field(default=None, pattern=r"^[1-9]\d{2}$")
    """Balance-of-payments code, where the central bank wants one."""
    identifier_types: dict[str, str] = Field(default_factory=dict, max_length=64)
    """Which identifiers of a payee may be looked up when an order has no account: id type to `TYPE` or `TYPE/SUBTYPE`."""
    send_names: bool = False
    """Whether the payee's name goes along in quotes."""
    bulk: bool = True
    """Whether payments are quoted and paid in bulk calls, one institution each; single calls otherwise.

    In adapter mode it says whether they go in `bulkTransactions`, and is off unless set: not every adapter has that part.
    """
    bulk_items: int = Field(default=1000, ge=1, le=1000)
    """Most payments in one bulk call."""
    window: int = Field(default=64, ge=1, le=10_000)
    """Most payments under way at one institution at a time; in bulk at least two calls' worth."""
    lookups: int = Field(default=64, ge=1, le=10_000)
    """Most look-ups under way at a time."""
    quote_seconds: float = Field(default=60.0, ge=1, le=86_400)
    """How long a quote asked for is to hold."""
    transfer_seconds: float = Field(default=30.0, ge=1, le=86_400)
    """How long a transfer may take before the scheme lets it lapse."""
    bulk_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """The same for bulk calls. In adapter mode: how long to wait for each of the adapter's callbacks; a bulk expires after three times that."""
    lookup_seconds: float = Field(default=30.0, ge=0.05, le=3600)
    """How long to wait for an answer to a look-up or a quote before asking again."""
    ask_seconds: float = Field(default=15.0, ge=0.05, le=3600)
    """How long after a transfer was sent the hub asks what became of it; shorter than `transfer_seconds`, so that a repeat still holds."""
    asks: int = Field(default=3, ge=1, le=20)
    """How often it asks before it sends the same bytes again, and again before a person has to decide."""
    signing_key: SecretStr | None = None
    """PEM of the private key the institution signs with (RSA from 2048 bits: RS256; P-256: ES256). None: nothing is signed."""
    public_keys: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Public keys (PEM) by institution id, the switch's too; two each while keys change over."""
    verify: Literal["all", "not-parties", "off"] = "all"
    """Which callbacks must carry a valid signature: all, all but `PUT /parties`, or none (mutual TLS alone)."""
    switch_fsp: str | None = Field(default=None, pattern=rf"^{FSP_ID.pattern}$")
    """The switch's own id, which may answer with an error in a payee institution's place."""
    callback_secret: SecretStr | None = Field(default=None, min_length=16, max_length=256)
    """Adapter mode: what callbacks must carry as `Authorization: Bearer`; a proxy between adapter and hub adds it. None: nothing."""
    token_url: str | None = _URL
    """OAuth2 token address (client credentials); none for schemes without tokens."""
    client_id: str | None = Field(default=None, max_length=200)
    """The OAuth2 client."""
    client_secret: SecretStr | None = None
    """Its secret."""
    scope: str | None = Field(default=None, max_length=400)
    """The OAuth2 scope, where one is wanted."""
    ca_file: Path | None = None
    """PEM file of the authorities trusted for this target in place of the system's."""
    client_cert_file: Path | None = None
    """PEM file of the certificate the hub shows (mutual TLS)."""
    client_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    allow_private_networks: tuple[IPvAnyNetwork, ...] = Field(default=(), max_length=64)
    """Private networks (CIDR) this target may lie in; everything that is not public is refused otherwise."""
    connections: int = Field(default=64, ge=1, le=1000)
    """How many connections may be open at once."""
    connect_timeout: float = Field(default=5.0, ge=0.05, le=60)
    """Seconds for name look-up, connection and TLS."""
    request_timeout: float = Field(default=10.0, ge=0.05, le=120)
    """Seconds until a request must be answered (202)."""
    retry_after_limit: float = Field(default=300.0, ge=1, le=86_400)
    """Seconds; a longer `Retry-After` is cut to this."""

    @model_validator(mode="before")
    @classmethod
    def _default_bulk(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "adapter":
            return {"bulk": False} | given
        return given

    @field_validator("url", "parties_url", "quotes_url", "transfers_url", "token_url")
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

    @field_validator("payer_id_type")
    @classmethod
    def _check_party_type(cls, value: str) -> str:
        if value not in PARTY_TYPES:
            raise ValueError(f"must be one of {', '.join(sorted(PARTY_TYPES))}")
        return value

    @field_validator("identifier_types")
    @classmethod
    def _check_identifier_types(cls, value: dict[str, str]) -> dict[str, str]:
        for target in value.values():
            kind, _, sub = target.partition("/")
            if kind not in PARTY_TYPES or (kind == "PERSONAL_ID" and sub not in PERSONAL_ID_TYPES):
                raise ValueError(
                    "each value is a party type, PERSONAL_ID with a sub type such as NATIONAL_ID_CARD"
                )
        return value

    @field_validator("resource_versions")
    @classmethod
    def _check_versions(cls, value: dict[str, str]) -> dict[str, str]:
        for resource, version in value.items():
            major, dot, minor = version.partition(".")
            if resource not in RESOURCES or not (dot and major.isdigit() and minor.isdigit()):
                raise ValueError(f"resources are {', '.join(RESOURCES)}, versions like 1.1")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> MojaloopSettings:
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together")
        if self.token_url is not None and not (self.client_id and self.client_secret):
            raise ValueError("token_url needs client_id and client_secret")
        if self.callback_secret is not None and self.mode != "adapter":
            raise ValueError("callback_secret is for adapter mode; callbacks of a scheme are signed")
        if self.mode == "adapter" and self.bulk and (self.sub_scenario or self.balance_of_payments):
            raise ValueError(
                "bulkTransactions carry neither sub_scenario nor balance_of_payments; unset them or bulk"
            )
        if self.mode == "scheme" and self.verify != "off" and not self.public_keys:
            raise ValueError(
                "verify needs public_keys; set verify: off only where mutual TLS proves the sender"
            )
        for address in self.addresses().values():
            url = URL(address)
            if url.scheme != "https" and not self.allow_private_networks:
                raise ValueError("plain http needs allow_private_networks")
            if _is_address(url.host or "") and not self.guard().permits(url.host or ""):
                raise ValueError("an address the hub may not reach; see allow_private_networks")
        return self

    def addresses(self) -> dict[str, str]:
        """Return the base address of each resource, and `token` where there is one."""
        quotes, transfers = self.quotes_url or self.url, self.transfers_url or self.url
        found = {
            "parties": self.parties_url or self.url,
            "quotes": quotes,
            "bulkQuotes": quotes,
            "transfers": transfers,
            "bulkTransfers": transfers,
            "bulkTransactions": transfers,
        }
        return found | ({"token": self.token_url} if self.token_url else {})

    def guard(self) -> AddressGuard:
        """Return the guard that says which addresses this target may have."""
        plain = any(URL(address).scheme != "https" for address in self.addresses().values())
        return AddressGuard(map(str, self.allow_private_networks), only_allowed=plain)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
