"""How one partner orders payments by G2P Connect: the options of its dialect profile, checked when the server starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Protocol

from aiohttp.helpers import is_ip_address
from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from adapters.dci.profile import DciProfile, options_of
from adapters.http.security.partners import Partner, Partners
from canonical_model.money import CurrencyCode
from connectors.g2p_connect.disburse_addresses import account_of
from connectors.network import AddressGuard

DIALECT: Final = "g2p-connect"


def _address(text: str) -> str:
    if account_of(text) is None:
        raise ValueError("a financial address is written type:id@provider")
    return text.lower()


def callback_base(text: str) -> str:
    """Return an address callbacks may go to; raises `ValueError` for one that cannot be used."""
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host or url.user or url.query_string or url.fragment:
        raise ValueError("an address of callbacks is https://HOST/PATH without login, query and fragment")
    return text.rstrip("/")


def guard_of(bases: Sequence[str], networks: Sequence[str]) -> AddressGuard:
    """Return what callbacks may reach: in clear only the private networks that are named."""
    return AddressGuard(networks, only_allowed=any(URL(base).scheme == "http" for base in bases))


class _Calling(Protocol):
    """A profile that says where callbacks may go."""

    @property
    def callbacks(self) -> tuple[str, ...]:
        """Addresses under which they lie."""

    @property
    def callback_networks(self) -> tuple[str, ...]:
        """Private networks they may lie in."""


def guards_of(
    partners: Partners, dialect: str, profile_of: Callable[[Partner], _Calling]
) -> dict[str, AddressGuard]:
    """Return where the callbacks of partners of a dialect may go; raises `ConfigError` for a wrong profile."""
    profiles = {
        name: profile_of(partner) for name, partner in partners.items() if partner.dialect.name == dialect
    }
    return {
        name: guard_of(profile.callbacks, profile.callback_networks) for name, profile in profiles.items()
    }


def check_callbacks(bases: Sequence[str], networks: Sequence[str]) -> None:
    """Raise `ValueError` for callbacks that could reach nobody: numeric addresses are not looked up, so they are checked here."""
    guard = guard_of(bases, networks)
    for base in bases:
        host = URL(base).host or ""
        if is_ip_address(host) and not guard.permits(host):
            raise ValueError(
                "a numeric address of callbacks is public, or lies in callback_networks; http is for those alone"
            )


CallbackBase = Annotated[str, AfterValidator(callback_base)]


class DisburseProfile(DciProfile):
    """The options of a partner whose dialect is `g2p-connect`; those of `dci` besides."""

    currency: CurrencyCode | None = None
    """The currency of an order that names none."""
    payers: Annotated[tuple[Annotated[str, AfterValidator(_address)], ...] | None, Field(max_length=1000)] = (
        None
    )
    """Financial addresses it may pay from; None for any, where the rail knows only one."""
    callbacks: Annotated[tuple[CallbackBase, ...], Field(max_length=20)] = ()
    """Where its callbacks may go: a `sender_uri` lies under one of these; the first serves messages without one."""
    callback_networks: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Private networks (CIDR) its callbacks may lie in; everything that is not public is refused otherwise."""

    @model_validator(mode="after")
    def _reachable(self) -> DisburseProfile:
        check_callbacks(self.callbacks, self.callback_networks)
        return self


def disburse_profile_of(partner: Partner) -> DisburseProfile:
    """Return the profile of a partner, the strict default for one of another dialect; raises `ConfigError`."""
    return options_of(partner, DIALECT, DisburseProfile, "docs/g2p-connect.md")


def callback_of(sender_uri: str | None, bases: Sequence[str], default_path: str) -> str | None:
    """Return where a callback goes: the sender's own address if it lies under an agreed one, None if nowhere."""
    if sender_uri is None:
        return f"{bases[0]}{default_path}" if bases else None
    try:
        asked = URL(sender_uri)
    except ValueError:
        return None
    if asked.user is not None or ".." in asked.raw_path.split("/"):
        return None
    for base in map(URL, bases):
        under = base.raw_path.rstrip("/")
        same = (asked.scheme, asked.host, asked.port) == (base.scheme, base.host, base.port)
        if same and (asked.raw_path == under or asked.raw_path.startswith(f"{under}/")):
            return sender_uri
    return None
