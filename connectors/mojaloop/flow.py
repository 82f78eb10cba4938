"""The course of one payment through a scheme, as decisions alone: what an answer means for it. Nothing here sends or stores.

Look-up and quote move no money: their silence is answered by asking the same again, and in the end by giving up. From the first
byte of a transfer on only proof, a final refusal or a person ends a payment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from canonical_model.payment import PaymentInstruction
from connectors.mojaloop.checks import party_fault, proof_fault, quote_fault
from connectors.mojaloop.errors import Action, action_of
from connectors.mojaloop.formats import after, clipped, dumps, path_part
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.ilp import fulfils
from connectors.mojaloop.iso20022 import IsoBodies
from connectors.mojaloop.model import BodyInvalid, Item, Order, Party, Payer, Quoted, Transferred
from connectors.mojaloop.payees import payee_of, shown_name
from connectors.mojaloop.settings import MojaloopSettings

UNKNOWN_THERE: Final = frozenset({"3207", "3208", "3210"})
"""Errors that say the scheme does not know the transfer that was asked about."""


class Means(StrEnum):
    """What an answer means for a payment."""

    GO = "go"
    """Go on to the next stage; the verdict carries what was found."""
    PAID = "paid"
    FAILED = "failed"
    """No money moved and none will."""
    OPEN = "open"
    """Nothing is decided: ask again later."""
    ABSENT = "absent"
    """The scheme does not know the transfer: the identical bytes may be sent again."""
    REVIEW = "review"
    """A person has to decide."""
    SYSTEMIC = "systemic"
    """Nothing is wrong with this payment: stop the batch. It has certainly not been paid."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means, why (a code of the scheme, or a reason code of the hub), and what was found."""

    means: Means
    reason: str | None = None
    party: Party | None = None
    quoted: Quoted | None = None
    transferred: Transferred | None = None
    wait: float | None = None
    """Seconds the other side asks to be left alone."""


class Flow:
    """Makes the requests of a target and judges the answers."""

    def __init__(self, settings: MojaloopSettings) -> None:
        self.settings = settings
        self.dialect: FspiopBodies | IsoBodies = (
            IsoBodies() if settings.version == "iso20022" else FspiopBodies()
        )
        self.payer = Payer(
            Party(settings.payer_id_type, settings.payer_id, settings.payer_sub_id, settings.payer_fsp),
            settings.payer_name,
            settings.amount_type,
            "TRANSFER",
            "BUSINESS",
            settings.sub_scenario,
            settings.balance_of_payments,
        )

    def payee(self, instruction: PaymentInstruction) -> Party:
        """Return whom to look up; raises `PayeeUnknown`."""
        return payee_of(instruction, self.settings.identifier_types)

    def order(
        self, instruction: PaymentInstruction, payee: Party, quote_id: str, transaction_id: str
    ) -> Order:
        """Return the payment as it is quoted, with the ids that were stored for it."""
        return Order(
            quote_id,
            transaction_id,
            payee,
            instruction.amount.minor_units,
            instruction.amount.currency,
            clipped(instruction.note),
            shown_name(instruction) if self.settings.send_names else None,
        )

    @staticmethod
    def party_path(payee: Party) -> str:
        """Return the address of a look-up, encoded."""
        return "/parties/" + "/".join(
            path_part(part) for part in (payee.type, payee.identifier, payee.sub) if part
        )

    def quote(self, order: Order) -> bytes:
        """Return the bytes of a quote request."""
        return dumps(self.dialect.quote(order, self.payer, after(self.settings.quote_seconds)))

    def transfer(self, order: Order, quoted: Quoted) -> bytes:
        """Return the bytes of a transfer request, which are what moves money."""
        expiration = after(self.settings.transfer_seconds)
        return dumps(self.dialect.transfer(order, quoted, self.payer, expiration))

    def party_told(self, asked: Party, body: Any, source: str, currency: str, *, failed: bool) -> Verdict:
        """Return what the answer to a look-up means."""
        if failed:
            return _refused(self.dialect.read_error(body), money_sent=False)
        try:
            found = self.dialect.read_party(body)
        except BodyInvalid:
            return Verdict(Means.FAILED, "party-unreadable")
        fault = party_fault(asked, found, currency)
        if fault is not None:
            return Verdict(Means.FAILED, fault)
        fsp = found.party.fsp or source
        return Verdict(Means.GO, party=Party(asked.type, asked.identifier, asked.sub, fsp))

    def quote_told(self, order: Order, body: Any, *, failed: bool) -> Verdict:
        """Return what the answer to a quote means."""
        if failed:
            return _refused(self.dialect.read_error(body), money_sent=False)
        try:
            quoted = self.dialect.read_quote(body)
        except BodyInvalid:
            return Verdict(Means.FAILED, "quote-unreadable")
        return self.judged_quote(order, quoted)

    def quote_item(self, order: Order, item: Item) -> Verdict:
        """Return what an entry of a bulk quote's answer means; one with neither terms nor error is not used."""
        if item.error is not None:
            return _refused(item.error, money_sent=False)
        if not isinstance(item.answer, Quoted):
            return Verdict(Means.FAILED, "quote-unreadable")
        return self.judged_quote(order, item.answer)

    def judged_quote(self, order: Order, quoted: Quoted) -> Verdict:
        """Return whether the terms of a quote are those that were asked for."""
        fault = quote_fault(self.settings, order, quoted)
        return Verdict(Means.FAILED, fault) if fault else Verdict(Means.GO, quoted=quoted)

    def transfer_told(self, condition: str, body: Any, *, failed: bool) -> Verdict:
        """Return what the answer to a transfer, or to a question about one, means."""
        if failed:
            return _refused(self.dialect.read_error(body), money_sent=True)
        state, fault = proof_fault(self.dialect, body, condition)
        if fault is None:
            return Verdict(Means.PAID, transferred=self.dialect.read_transfer(body))
        if state == "COMMITTED":
            return Verdict(Means.REVIEW, fault)
        if state == "ABORTED":
            return Verdict(Means.FAILED, "aborted")
        return Verdict(Means.OPEN, fault if state == "" else f"state-{state.lower()}")

    def transfer_item(self, condition: str, item: Item) -> Verdict:
        """Return what an entry of a bulk transfer's answer means; one with neither proof nor error stays open."""
        if item.error is not None:
            return _refused(item.error, money_sent=True)
        if not isinstance(item.answer, Transferred):
            return Verdict(Means.OPEN, "item-without-result")
        if item.answer.fulfilment is None:
            return Verdict(Means.REVIEW, "fulfilment-missing")
        if not fulfils(item.answer.fulfilment, condition):
            return Verdict(Means.REVIEW, "fulfilment-wrong")
        return Verdict(Means.PAID, transferred=item.answer)


def _refused(code: str | None, *, money_sent: bool) -> Verdict:
    """Return what an error means: before money is sent nothing is open, after that only a final code ends a payment."""
    if code is None:
        return Verdict(Means.OPEN if money_sent else Means.FAILED, "error-unreadable")
    if money_sent and code in UNKNOWN_THERE:
        return Verdict(Means.ABSENT, code)
    action = action_of(code)
    if action is Action.SYSTEMIC:
        return Verdict(Means.SYSTEMIC, code)
    return Verdict(Means.FAILED if action is Action.FINAL else Means.OPEN, code)
