"""What one entry of an adapter's bulk callback means for its payment, as decisions alone. Nothing here sends or stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectors.mojaloop.adapter_bulk import Result, transaction_of
from connectors.mojaloop.checks import party_fault
from connectors.mojaloop.errors import Action, action_of
from connectors.mojaloop.flow import Flow, Means, Verdict
from connectors.mojaloop.ilp import fulfils
from connectors.mojaloop.model import Item, Party
from connectors.mojaloop.payees import PayeeUnknown
from connectors.payments.contract import Transfer

_TORN: Final = "item-contradictory"
_DIFFERS: Final = "item-differs"


def moved(result: Result | None) -> bool:
    """Say whether an entry says that money moved, proven or not."""
    told = result.fulfil if result is not None else None
    return told is not None and (told.fulfilment is not None or told.state == "COMMITTED")


class Judge:
    """Judges the entries for the payments of one target; `None` as a result is one that contradicts another, or is missing."""

    def __init__(
        self, flow: Flow, payee: Callable[[Transfer], Party], in_time: Callable[[Transfer], None]
    ) -> None:
        self._flow, self._payee, self._in_time = flow, payee, in_time

    def party(self, row: Transfer, result: Result | None, *, missing: bool) -> Verdict:
        """Return whether the payee found is the one ordered, for an order that is still to be paid and repeated truly."""
        if result is None:
            return Verdict(Means.FAILED, "party-missing" if missing else _TORN)
        if result.failed:
            return self._before_money(result)
        found = result.party
        if result.transfer_id is None or found is None or not found.party.fsp:
            return Verdict(Means.FAILED, "party-unreadable")
        late = self._late(row)
        if late is not None:
            return late
        asked = self._payee(row)
        order = self._flow.order(row.instruction, asked, "", "")
        if not result.fits(order, self._flow.payer.amount_type):
            return Verdict(Means.FAILED, _DIFFERS)
        fault = party_fault(asked, found, order.currency)
        if fault is not None:
            return Verdict(Means.FAILED, fault)
        return Verdict(Means.GO, party=Party(asked.type, asked.identifier, asked.sub, found.party.fsp))

    def quote(self, row: Transfer, result: Result | None, *, missing: bool) -> Verdict:
        """Return whether the terms of a quote are those that were asked for."""
        if result is None:
            return Verdict(Means.FAILED, "quote-missing" if missing else _TORN)
        if result.failed:
            return self._before_money(result)
        late = self._late(row)
        if late is not None:
            return late
        payee = self._payee(row)
        known = Party(payee.type, payee.identifier, payee.sub, row.references["institution"])
        order = self._flow.order(row.instruction, known, result.quote_id or "", transaction_of(result.quote))
        if result.transfer_id != row.references["transfer"] or not result.fits(
            order, self._flow.payer.amount_type
        ):
            return Verdict(Means.FAILED, _DIFFERS)
        return self._flow.quote_item(order, Item(row.payment_id, result.quote, None))

    def transfer(self, row: Transfer, result: Result | None) -> Verdict:
        """Return what an entry means for a payment whose quote was accepted: proof pays it, whatever else may be said."""
        if result is None:
            return Verdict(Means.OPEN, "item-missing")
        told = result.fulfil
        if told is not None and told.fulfilment is not None:
            if not fulfils(told.fulfilment, row.condition or ""):
                return Verdict(Means.REVIEW, "fulfilment-wrong")
            if result.failed:
                return Verdict(Means.REVIEW, "paid-after-failure")
            return Verdict(Means.PAID, transferred=told)
        if told is not None and told.state == "COMMITTED":
            return Verdict(Means.REVIEW, "fulfilment-missing")
        if result.transfer_id not in {None, row.references["transfer"]}:
            return Verdict(Means.REVIEW, _DIFFERS)
        if result.failed and result.error is not None:
            verdict = self._flow.transfer_item("", Item(row.payment_id, None, result.error))
            # A bulk cannot be sent again for one payment of it.
            return Verdict(Means.REVIEW, "unknown-there") if verdict.means is Means.ABSENT else verdict
        if told is not None and told.state == "ABORTED":
            return Verdict(Means.FAILED, "aborted")
        return Verdict(Means.OPEN, "error-unreadable" if result.failed else "item-without-result")

    def unpaid(self, result: Result | None) -> Verdict:
        """Return what the end of a bulk means for a payment whose quote was never accepted."""
        if result is not None and result.failed:
            return self._before_money(result)
        return Verdict(Means.FAILED, "item-without-result")

    @staticmethod
    def _before_money(result: Result) -> Verdict:
        if result.error is None:
            return Verdict(Means.FAILED, "error-unreadable")
        systemic = action_of(result.error) is Action.SYSTEMIC
        return Verdict(Means.SYSTEMIC if systemic else Means.FAILED, result.error)

    def _late(self, row: Transfer) -> Verdict | None:
        try:
            self._in_time(row)
        except PayeeUnknown as error:
            return Verdict(Means.FAILED, str(error))
        return None
