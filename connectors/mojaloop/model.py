"""What passes between the hub and a Mojaloop scheme, whatever the bodies look like: one internal form, transformed at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class BodyInvalid(ValueError):
    """A received body that cannot be used; the text says what is wrong and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who is paid or pays: an identifier of a type, a sub id or sub type, and the institution once it is known."""

    type: str
    identifier: str
    sub: str | None = None
    fsp: str | None = None

    @property
    def key(self) -> str:
        """The text by which a look-up and its answer are joined; it names a person."""
        return f"{self.type}/{self.identifier}" + (f"/{self.sub}" if self.sub else "")

    def same_person(self, other: Party) -> bool:
        """Say whether the other names the same identifier; a `+` before a phone number makes no difference."""
        mine, yours = (
            p.identifier.removeprefix("+") if p.type == "MSISDN" else p.identifier for p in (self, other)
        )
        return self.type == other.type and mine == yours and (self.sub or None) == (other.sub or None)


@dataclass(frozen=True, slots=True)
class Order:
    """One payment as it is quoted: amounts in minor units, ids made by the hub."""

    quote_id: str
    transaction_id: str
    payee: Party
    amount: int
    currency: str
    note: str | None = None
    payee_name: str | None = None


@dataclass(frozen=True, slots=True)
class Payer:
    """The payer of every order of a target: the ministry's party at its institution, and how the order is meant."""

    party: Party
    name: str | None
    amount_type: str
    scenario: str
    initiator_type: str
    sub_scenario: str | None = None
    balance_of_payments: str | None = None


@dataclass(frozen=True, slots=True)
class PartyFound:
    """The answer to a look-up; `name` is what the payee's institution knows the person as."""

    party: Party
    name: str | None
    currencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quoted:
    """The answer to a quote: what leaves the payer, what arrives, until when, and the sealed terms. Minor units."""

    amount: int
    currency: str
    receive: int | None
    fee: int | None
    expires_at: datetime
    packet: str
    condition: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """The answer to a transfer: its state (`RECEIVED`, `RESERVED`, `COMMITTED`, `ABORTED`) and the proof of payment."""

    state: str
    fulfilment: str | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a bulk answer: an answer, an error code, or neither (then the item is open)."""

    id: str
    answer: Quoted | Transferred | None
    error: str | None


class Dialect(Protocol):
    """How bodies are written and read; ids as this form of the standard wants them."""

    bulk: bool

    def new_id(self) -> str:
        """Return a new id."""

    def media_type(self, resource: str, version: str) -> str:
        """Return the media type of a resource."""

    def quote(self, order: Order, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of a quote request."""

    def transfer(self, order: Order, quoted: Quoted, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of a transfer request: amount, packet and condition as the quote has them."""

    def read_party(self, body: Any) -> PartyFound:
        """Return the party of a look-up's answer; raises `BodyInvalid`."""

    def read_quote(self, body: Any) -> Quoted:
        """Return the terms of a quote's answer; raises `BodyInvalid`."""

    def read_transfer(self, body: Any) -> Transferred:
        """Return the state of a transfer; raises `BodyInvalid`."""

    def read_error(self, body: Any) -> str | None:
        """Return the error code of an error body, or None when there is none in it."""
