"""The sandbox's scheme: what its payee institutions know, quote and pay, and every way in which they can misbehave."""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from connectors.mojaloop import ilp
from connectors.mojaloop.formats import after, b64_hash
from connectors.mojaloop.fspiop import money
from connectors.mojaloop.model import Party
from connectors.mojaloop.sandbox_wire import Asked, Turned, Wire

SECRET: Final = "sandbox-ilp-secret-0001"  # noqa: S105 - known to everybody, only for the sandbox
_MAX_KEPT: Final = 2_000_000


class Fault(StrEnum):
    """A misbehaviour of the scheme towards one payee (by identifier) or towards all."""

    PARTY_UNKNOWN = "party-unknown"
    """The look-up ends with 3204."""
    PARTY_SILENT = "party-silent"
    """The look-up is never answered."""
    PARTY_OTHER = "party-other"
    """The look-up is answered for another person."""
    QUOTE_SILENT = "quote-silent"
    """The quote is never answered."""
    QUOTE_REFUSED = "quote-refused"
    """The quote ends with 5103."""
    QUOTE_OTHER_PAYEE = "quote-other-payee"
    """The packet of the quote names another payee."""
    QUOTE_OTHER_AMOUNT = "quote-other-amount"
    """The packet of the quote names another amount than its answer."""
    QUOTE_DEAR = "quote-dear"
    """The quote wants 5 % on top."""
    QUOTE_OTHER_CURRENCY = "quote-other-currency"
    """The quote is in another currency."""
    QUOTE_EXPIRED = "quote-expired"
    """The quote has expired before it arrives."""
    LOST = "lost"
    """The first transfer request is answered with 202 and forgotten."""
    SILENT = "silent"
    """The money moves, and nobody says so until asked."""
    MUTE = "mute"
    """The money moves, and nobody says so even when asked."""
    REFUSED = "refused"
    """The transfer ends with 5104."""
    NO_LIQUIDITY = "no-liquidity"
    """The transfer ends with 4001: the payer's institution is out of money."""
    WRONG_FULFILMENT = "wrong-fulfilment"
    """The transfer ends as COMMITTED with a proof of something else."""
    NO_FULFILMENT = "no-fulfilment"
    """The transfer ends as COMMITTED without a proof."""
    RESERVED = "reserved"
    """The transfer is told as RESERVED first, and COMMITTED when asked."""
    ABORTED = "aborted"
    """The transfer is lost, and ABORTED when asked."""
    DUPLICATE = "duplicate"
    """Every callback comes twice."""
    EARLY = "early"
    """The callback comes before the 202."""
    LATE = "late"
    """The callback comes `late_seconds` after."""
    CONTRADICTION = "contradiction"
    """The transfer is told as failed first, and as COMMITTED afterwards."""
    UNSIGNED = "unsigned"
    """The callback carries no signature, then the right one comes when asked."""
    TAMPERED = "tampered"
    """The callback was changed after it was signed."""
    WRONG_PARTY = "wrong-party"
    """The callback comes from another institution, signed with its own key."""
    OVERSIZE = "oversize"
    """The callback has a body of 6 MB."""
    ITEM_MISSING = "item-missing"
    """The bulk answer has no entry for it."""
    ITEM_DOUBLED = "item-doubled"
    """The bulk answer has two entries for it."""


@dataclass(slots=True)
class Paid:
    """One transfer at the payee's institution: the bytes that asked for it, and what became of it."""

    digest: str
    fsp: str
    identifier: str
    amount: int
    currency: str
    state: str
    fulfilment: str
    error: str | None = None
    requests: int = 1


@dataclass(slots=True)
class Quote:
    """One quote as it was given."""

    digest: str
    asked: Asked
    amount: int
    answer: dict[str, Any]
    condition: str
    fulfilment: str


@dataclass
class Scheme:
    """The institutions and their books; `faults` are by payee identifier, `every` holds for all."""

    wire: Wire
    fsps: tuple[str, ...]
    fee: int = 0
    faults: dict[str, set[Fault]] = field(default_factory=dict)
    every: set[Fault] = field(default_factory=set)
    quotes: OrderedDict[str, Quote] = field(default_factory=OrderedDict)
    transfers: OrderedDict[str, Paid] = field(default_factory=OrderedDict)
    by_transaction: OrderedDict[str, Quote] = field(default_factory=OrderedDict)
    forgotten: set[str] = field(default_factory=set)

    def has(self, identifier: str, fault: Fault) -> bool:
        """Say whether the scheme misbehaves so towards this payee."""
        return fault in self.every or fault in self.faults.get(identifier, ())

    def fsp_of(self, identifier: str) -> str:
        """Return the institution a payee is at: always the same one of the list."""
        return self.fsps[zlib.crc32(identifier.removeprefix("+").encode()) % len(self.fsps)]

    def find(self, kind: str, identifier: str, sub: str | None) -> dict[str, Any] | str:
        """Return the body of a look-up's answer, or an error code."""
        if self.has(identifier, Fault.PARTY_UNKNOWN):
            return "3204"
        shown = identifier + "9" if self.has(identifier, Fault.PARTY_OTHER) else identifier
        return self.wire.party(Party(kind, shown, sub, self.fsp_of(identifier)), "Sandbox Person")

    def quote(self, asked: Asked, body: bytes, expiration: str | None = None) -> dict[str, Any] | str:
        """Return the terms of a quote, or an error code; the same request again gets the same answer."""
        digest = hashlib.sha256(body).hexdigest()
        known = self.quotes.get(asked.id)
        if known is not None:
            if known.digest != digest:
                raise Turned(400, "3106", "the quote differs from an earlier one of the same id")
            return known.answer
        payee = asked.payee
        if self.has(payee.identifier, Fault.QUOTE_REFUSED):
            return "5103"
        expiration = after(-5 if self.has(payee.identifier, Fault.QUOTE_EXPIRED) else 3600)
        fee = asked.amount // 20 if self.has(payee.identifier, Fault.QUOTE_DEAR) else self.fee
        amount, receive = (
            (asked.amount + fee, asked.amount) if asked.receive else (asked.amount, asked.amount - fee)
        )
        currency = "XTS" if self.has(payee.identifier, Fault.QUOTE_OTHER_CURRENCY) else asked.currency
        shown = (
            payee.identifier + "7"
            if self.has(payee.identifier, Fault.QUOTE_OTHER_PAYEE)
            else payee.identifier
        )
        named = amount + 1 if self.has(payee.identifier, Fault.QUOTE_OTHER_AMOUNT) else amount
        info = {"partyIdType": payee.type, "partyIdentifier": shown, "fspId": payee.fsp or ""}
        if payee.sub:
            info["partySubIdOrType"] = payee.sub
        transaction = {
            "quoteId": asked.id,
            "transactionId": asked.transaction_id,
            "transactionType": {"scenario": "TRANSFER", "initiator": "PAYER", "initiatorType": "BUSINESS"},
            "payee": {"partyIdInfo": info},
            "payer": {"partyIdInfo": {"partyIdType": "BUSINESS", "partyIdentifier": "payer"}},
            "expiration": expiration,
            "amount": money(named, asked.currency),
        }
        made = ilp.prepare(transaction, SECRET, v4=self.wire.iso)
        answer = self.wire.terms(asked, amount, receive, expiration, made.packet, made.condition)
        if currency != asked.currency and not self.wire.iso:
            answer["transferAmount"]["currency"] = "EUR" if asked.currency != "EUR" else "USD"
            answer["payeeReceiveAmount"]["currency"] = answer["transferAmount"]["currency"]
        found = Quote(digest, asked, amount, answer, made.condition, made.fulfilment)
        _keep(self.quotes, asked.id, found)
        _keep(self.by_transaction, asked.transaction_id, found)
        return answer

    def transfer(self, asked: Asked, body: bytes) -> Paid | None:
        """Take a transfer and return what became of it; None when it was forgotten at once.

        The same request again changes nothing; another one of the same id is refused with 3106.
        """
        digest = hashlib.sha256(body).hexdigest()
        known = self.transfers.get(asked.id)
        if known is not None:
            if known.digest != digest:
                raise Turned(400, "3106", "the transfer differs from an earlier one of the same id")
            known.requests += 1
            return known
        quoted = self.by_transaction.get(asked.id)
        if quoted is None:
            return Paid(
                digest, asked.payee.fsp or "", "", asked.amount, asked.currency, "ABORTED", "", "3205"
            )
        identifier = quoted.asked.payee.identifier
        if self.has(identifier, Fault.LOST) and asked.id not in self.forgotten:
            self.forgotten.add(asked.id)
            return None
        paid = Paid(
            digest,
            quoted.asked.payee.fsp or "",
            identifier,
            asked.amount,
            asked.currency,
            "COMMITTED",
            quoted.fulfilment,
            self._refusal(asked, quoted, identifier),
        )
        if paid.error is not None:
            paid.state = "ABORTED"
        _keep(self.transfers, asked.id, paid)
        return paid

    def _refusal(self, asked: Asked, quoted: Quote, identifier: str) -> str | None:
        if (asked.amount, asked.currency) != (quoted.amount, quoted.asked.currency):
            return "3100"
        if asked.condition and asked.condition != quoted.condition:
            return "3100"
        if self.has(identifier, Fault.NO_LIQUIDITY):
            return "4001"
        if self.has(identifier, Fault.REFUSED):
            return "5104"
        return "5000" if self.has(identifier, Fault.ABORTED) else None

    def told(self, paid: Paid, *, asked_for: bool) -> dict[str, Any] | str | None:
        """Return how a transfer is told: a body, an error code, or None for silence."""
        identifier = paid.identifier
        if paid.error is not None:
            if self.has(identifier, Fault.ABORTED):
                return self.wire.state("ABORTED", None) if asked_for else None
            return paid.error
        if self.has(identifier, Fault.MUTE) or (self.has(identifier, Fault.SILENT) and not asked_for):
            return None
        if self.has(identifier, Fault.RESERVED) and not asked_for:
            return self.wire.state("RESERVED", None)
        if self.has(identifier, Fault.WRONG_FULFILMENT):
            return self.wire.state("COMMITTED", b64_hash(paid.fulfilment.encode()))
        if self.has(identifier, Fault.NO_FULFILMENT):
            return self.wire.state("COMMITTED", None)
        return self.wire.state("COMMITTED", paid.fulfilment)

    def committed(self) -> list[Paid]:
        """Return every transfer whose money moved."""
        return [paid for paid in self.transfers.values() if paid.state == "COMMITTED"]


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > _MAX_KEPT:
        kept.popitem(last=False)
