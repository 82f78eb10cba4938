"""The settings of one Payment Hub EE target: a deployment, the tenant that pays, and the limits its operator has set."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from yarl import URL

from connectors.contract import Settings
from connectors.network import AddressGuard

_NAME = r"^[!-~]{1,100}$"
_URL = Field(default=None, max_length=2000)


class PaymentHubSettings(Settings):
    """Where the services are, who pays, how files are cut, and when what is asked."""

    dialect: Literal["payment_hub_ee", "govstack"] = "payment_hub_ee"
    """How headers, paths and fields are spelled: as Payment Hub EE reads them, or as GovStack's pages have them."""
    bulk_url: str = Field(max_length=2000)
    """Base address of the bulk processor (`/batchtransactions`)."""
    operations_url: str = Field(max_length=2000)
    """Base address of the operations app; `/api/v1` and `/oauth/token` are appended."""
    channel_url: str | None = _URL
    """Base address of the channel connector, for single payments."""
    mapper_url: str | None = _URL
    """Base address of the identity account mapper."""
    vouchers_url: str | None = _URL
    """Base address of the voucher service."""
    tenant: str = Field(pattern=_NAME)
    """`Platform-TenantId`, the payer's institution; case matters."""
    payer_id_type: str | None = Field(default=None, pattern=r"^[A-Za-z_]{1,40}$")
    """Type of the payer's account, for example `ACCOUNT_ID`; none where the server fills the payer in."""
    payer_id: str | None = Field(default=None, max_length=100)
    """The payer's account."""
    purpose: str = Field(default="Social benefit", min_length=1, max_length=100)
    """The `Purpose` header."""
    registering_institution: str | None = Field(default=None, pattern=_NAME)
    """`X-Registering-Institution-ID`: payees are functional ids the server looks up in its mapper."""
    program: str | None = Field(default=None, pattern=_NAME)
    """`X-Program-ID`: with the institution, the payer is taken from the server's budget accounts."""
    form: Literal["csv", "json"] = "csv"
    """How a batch goes out: a CSV file, or a JSON array."""
    payment_mode: str = Field(default="closedloop", pattern=r"^[A-Za-z0-9_-]{1,20}$")
    """Mode of payments whose account kind has none of its own."""
    modes: dict[str, str] = Field(default_factory=dict, max_length=20)
    """Mode by account kind, for example `mobile_money: gsma`; each mode has files of its own."""
    id_types: dict[str, str] = Field(default_factory=dict, max_length=20)
    """`payee_identifier_type` by account kind, where it differs from `MSISDN` for mobile money and `ACCOUNT_ID` otherwise."""
    identifiers: tuple[str, ...] = Field(default=(), max_length=20)
    """Id types of the registry that serve as functional id for the server's mapper, the first that a payee has."""
    max_file_bytes: int = Field(default=100_000, ge=1000, le=50_000_000)
    """Bytes of a file the server takes (`csv.size`); ask its operator."""
    max_file_rows: int = Field(default=500, ge=1, le=100_000)
    """Payments in one file."""
    sub_batch_size: int = Field(default=5, ge=0, le=100_000)
    """Rows above which the server splits a file (`sub-batch-size`); 0 when it does not split."""
    decimals: Literal["small_files", "channel", "refuse"] = "small_files"
    """Amounts with decimals break splitting: files too small to be split, single payments, or not at all."""
    wide: bool = True
    """Whether files have all fifteen columns, so that what splitting drops at the end of a row is empty."""
    singles: Literal["channel", "file"] = "channel"
    """How an order that is no part of a batch is paid."""
    channel_recognises_repeats: bool = False
    """Whether the channel refuses a correlation id it has seen (its optional Redis check)."""
    signing_key: SecretStr | None = None
    """RSA private key of the tenant (PEM, or base64 of PKCS#8) for `X-SIGNATURE`; none where the server's check is off."""
    server_certificate: str | None = Field(default=None, max_length=10_000)
    """Certificate or public key with which the answer to a batch must be signed; none: answers are not checked."""
    signature_order: tuple[str, ...] = ("X-BatchID", "X-CorrelationID", "Platform-TenantId")
    """The server's `jws.header.order`."""
    login: Literal["none", "password", "client"] = "none"
    """How a token is had: `password` from the operations app, `client` (client credentials) from a gateway's `token_url`."""
    token_url: str | None = _URL
    """Token address, where it is not `/oauth/token` of the operations app."""
    username: str | None = Field(default=None, max_length=200)
    """User of the operations app."""
    password: SecretStr | None = None
    """That user's password."""
    client_id: str = Field(default="client", max_length=200)
    """OAuth2 client; the operations app's own is `client`."""
    client_secret: SecretStr = SecretStr("")
    """Its secret; empty for the operations app's own client."""
    callback_url: str | None = Field(default=None, max_length=2000)
    """The hub's own address for this target, `https://HUB/callbacks/TARGET`; none: the hub only asks."""
    callback_secret: SecretStr | None = None
    """Last part of the callback's path, at least 16 characters: the server signs no callback."""
    authorizes: bool = False
    """Whether this hub is the funding side the server asks to authorise a batch; it needs callback_secret."""
    first_ask: float = Field(default=30.0, ge=0.01, le=86_400)
    """Seconds from a batch's acceptance to the first reconciliation; later ones are twice as far apart each."""
    sweep_seconds: float = Field(default=600.0, ge=0.01, le=86_400)
    """Most seconds between two reconciliations of an open batch."""
    lost_asks: int = Field(default=6, ge=1, le=100)
    """How often a batch whose answer was lost is looked for before a person decides; it is never sent again."""
    missing_asks: int = Field(default=6, ge=1, le=100)
    """Reconciliations after which a payment the server says nothing of becomes unknown."""
    open_asks: int = Field(default=1000, ge=1, le=1_000_000)
    """Reconciliations after which a payment that is still running there becomes unknown."""
    reconcile_by: Literal["requests", "batch"] = "requests"
    """Ask by request ids (`POST /transfers`), or read the batch's own pages (`/batch/detail`)."""
    page_size: int = Field(default=500, ge=1, le=10_000)
    """Payments asked about in one request."""
    window: int = Field(default=5000, ge=1, le=1_000_000)
    """Payments under way per payee institution."""
    parallel: int = Field(default=4, ge=1, le=64)
    """Files sent or reconciled at the same time."""
    ca_file: Path | None = None
    """PEM file of the authorities trusted for this target in place of the system's."""
    client_cert_file: Path | None = None
    """PEM file of the certificate the hub shows (mutual TLS)."""
    client_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    allow_private_networks: tuple[IPvAnyNetwork, ...] = Field(default=(), max_length=64)
    """Private networks (CIDR) this target may lie in; everything that is not public is refused otherwise."""
    connections: int = Field(default=16, ge=1, le=1000)
    """How many connections may be open at once."""
    connect_timeout: float = Field(default=5.0, ge=0.05, le=60)
    """Seconds for name look-up, connection and TLS."""
    request_timeout: float = Field(default=30.0, ge=0.05, le=600)
    """Seconds until a request must be answered."""
    retry_after_limit: float = Field(default=300.0, ge=1, le=86_400)
    """Seconds; a longer `Retry-After` is cut to this."""

    @field_validator(
        "bulk_url", "operations_url", "channel_url", "mapper_url", "vouchers_url", "token_url", "callback_url"
    )
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

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together")
        if (self.payer_id is None) != (self.payer_id_type is None):
            raise ValueError("payer_id and payer_id_type go together")
        if self.payer_id is None and not (self.registering_institution and self.program):
            raise ValueError("needs payer_id, or registering_institution with program")
        if self.login == "password" and not (self.username and self.password):
            raise ValueError("login: password needs username and password")
        if self.login == "client" and not self.token_url:
            raise ValueError("login: client needs token_url")
        if self.singles == "channel" and self.channel_url is None:
            raise ValueError("singles: channel needs channel_url; set singles to file otherwise")
        if self.decimals == "channel" and self.channel_url is None:
            raise ValueError("decimals: channel needs channel_url")
        if self.decimals == "small_files" and self.registering_institution and self.sub_batch_size:
            raise ValueError(
                "with registering_institution every file is split; set decimals to channel or refuse"
            )
        if self.dialect == "govstack" and self.form != "json":
            raise ValueError("dialect: govstack needs form: json")
        self._check_callback()
        for address in self.addresses().values():
            url = URL(address)
            if url.scheme != "https" and not self.allow_private_networks:
                raise ValueError("plain http needs allow_private_networks")
            if _is_address(url.host or "") and not self.guard().permits(url.host or ""):
                raise ValueError("an address the hub may not reach; see allow_private_networks")
        return self

    def _check_callback(self) -> None:
        secret = self.callback_secret.get_secret_value() if self.callback_secret else ""
        if self.callback_url is not None and not secret:
            raise ValueError("callback_url needs callback_secret")
        if secret and not (16 <= len(secret) <= 64 and secret.isascii() and secret.isalnum()):
            raise ValueError("callback_secret needs 16 to 64 letters and digits")
        if self.authorizes and not secret:
            raise ValueError("authorizes needs callback_secret")
        if self.callback_url is not None and len(f"{self.callback_url}/vouchers/{14 * '0'}/{secret}") > 100:
            raise ValueError("callback_url and callback_secret are too long: the server takes 100 characters")

    def addresses(self) -> dict[str, str]:
        """Return the base address of each service that is configured."""
        found = {
            "bulk": self.bulk_url,
            "operations": self.operations_url,
            "channel": self.channel_url,
            "mapper": self.mapper_url,
            "vouchers": self.vouchers_url,
            "token": self.token_url or f"{self.operations_url}/oauth/token",
        }
        return {name: address for name, address in found.items() if address is not None}

    def guard(self) -> AddressGuard:
        """Return the guard that says which addresses this target may have."""
        plain = any(URL(address).scheme != "https" for address in self.addresses().values())
        return AddressGuard(map(str, self.allow_private_networks), only_allowed=plain)

    def callback(self, kind: str, request_id: str | None = None) -> str | None:
        """Return the address the server is told to call back, `batch`, `mapper` or `vouchers`; None without one.

        `request_id` goes into it where an answer may come without any id.
        """
        if self.callback_url is None or self.callback_secret is None:
            return None
        middle = kind if request_id is None else f"{kind}/{request_id}"
        return f"{self.callback_url}/{middle}/{self.callback_secret.get_secret_value()}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
