"""The bodies of FSPIOP 1.1 and 2.0: parties, quotes, transfers and their bulk forms.

Both versions have the same members for government payments. 2.0 is closed (nothing extra is sent), 1.1 is open (what is not
known in an answer is passed over).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from connectors.mojaloop.errors import is_code
from connectors.mojaloop.formats import HASH, amount_text, minor_units, new_uuid, parse_moment
from connectors.mojaloop.model import BodyInvalid, Item, Order, Party, PartyFound, Payer, Quoted, Transferred

STATES: Final = frozenset({"RECEIVED", "RESERVED", "COMMITTED", "ABORTED"})
BULK_STATES: Final = frozenset({"RECEIVED", "PENDING", "ACCEPTED", "PROCESSING", "COMPLETED", "REJECTED"})


class FspiopBodies:
    """JSON bodies as FSPIOP defines them."""

    bulk = True

    def new_id(self) -> str:
        """Return a UUID of version 4, which every version takes."""
        return new_uuid()

    def media_type(self, resource: str, version: str) -> str:
        """Return `application/vnd.interoperability.<resource>+json;version=<version>`."""
        return f"application/vnd.interoperability.{resource}+json;version={version}"

    def quote(self, order: Order, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of `POST /quotes`."""
        return {
            **self.quote_item(order, payer),
            "payer": payer_party(payer),
            "expiration": expiration,
        }

    def transfer(self, order: Order, quoted: Quoted, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of `POST /transfers`; the transfer has the transaction's id, as reference software has it."""
        return {
            "transferId": order.transaction_id,
            "payerFsp": payer.party.fsp,
            "payeeFsp": order.payee.fsp,
            "amount": money(quoted.amount, quoted.currency),
            "ilpPacket": quoted.packet,
            "condition": quoted.condition,
            "expiration": expiration,
        }

    def bulk_quote(self, bulk_id: str, items: Sequence[Any], payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of `POST /bulkQuotes`; all items (see `quote_item`) are for one institution."""
        return {
            "bulkQuoteId": bulk_id,
            "payer": payer_party(payer),
            "expiration": expiration,
            "individualQuotes": list(items),
        }

    def bulk_transfer(
        self,
        bulk_id: str,
        bulk_quote_id: str,
        payee_fsp: str,
        items: Sequence[Any],
        payer: Payer,
        expiration: str,
    ) -> dict[str, Any]:
        """Return the body of `POST /bulkTransfers` for the items (see `transfer_item`) whose quote succeeded."""
        return {
            "bulkTransferId": bulk_id,
            "bulkQuoteId": bulk_quote_id,
            "payerFsp": payer.party.fsp,
            "payeeFsp": payee_fsp,
            "individualTransfers": list(items),
            "expiration": expiration,
        }

    def read_party(self, body: Any) -> PartyFound:
        """Return the party of `PUT /parties/…`."""
        party = _dict(_dict(body).get("party"))
        info = _dict(party.get("partyIdInfo"))
        name = party.get("name")
        currencies = party.get("supportedCurrencies") or ()
        return PartyFound(
            Party(
                _text(info.get("partyIdType")),
                _text(info.get("partyIdentifier")),
                _maybe(info.get("partySubIdOrType")),
                _maybe(info.get("fspId")),
            ),
            name if isinstance(name, str) else _complex_name(party),
            tuple(c for c in currencies if isinstance(c, str)) if isinstance(currencies, list) else (),
        )

    def read_quote(self, body: Any) -> Quoted:
        """Return the terms of `PUT /quotes/{ID}`."""
        answer = _dict(body)
        return _quoted(answer, answer.get("expiration"))

    def read_bulk_quote(self, body: Any) -> list[Item]:
        """Return the entries of `PUT /bulkQuotes/{ID}`; the list may be absent, shorter or in any order."""
        answer = _dict(body)
        items = []
        for entry in _list(answer.get("individualQuoteResults")):
            if "errorInformation" in entry:
                items.append(Item(_text(entry.get("quoteId")), None, self.read_error(entry) or "5000"))
                continue
            try:
                terms: Quoted | None = _quoted(entry, answer.get("expiration"))
            except BodyInvalid:
                terms = None
            items.append(Item(_text(entry.get("quoteId")), terms, None))
        return items

    def read_transfer(self, body: Any) -> Transferred:
        """Return the state of `PUT` or `PATCH /transfers/{ID}`."""
        answer = _dict(body)
        state = answer.get("transferState")
        if not isinstance(state, str) or state not in STATES:
            raise BodyInvalid("there is no known transferState")
        return Transferred(
            str(state), _maybe(answer.get("fulfilment")), _moment(answer.get("completedTimestamp"))
        )

    def read_bulk_transfer(self, body: Any) -> tuple[str, list[Item]]:
        """Return state and entries of `PUT /bulkTransfers/{ID}`; an entry with neither proof nor error stays open."""
        answer = _dict(body)
        state = answer.get("bulkTransferState")
        if not isinstance(state, str) or state not in BULK_STATES:
            raise BodyInvalid("there is no known bulkTransferState")
        completed = _moment(answer.get("completedTimestamp"))
        items = []
        for entry in _list(answer.get("individualTransferResults")):
            item_id = _text(entry.get("transferId"))
            if "errorInformation" in entry:
                items.append(Item(item_id, None, self.read_error(entry) or "5000"))
            elif "fulfilment" in entry:
                items.append(
                    Item(item_id, Transferred("COMMITTED", _maybe(entry["fulfilment"]), completed), None)
                )
            else:
                items.append(Item(item_id, None, None))
        return str(state), items

    def read_error(self, body: Any) -> str | None:
        """Return `errorInformation.errorCode`."""
        information = body.get("errorInformation") if isinstance(body, dict) else None
        code = information.get("errorCode") if isinstance(information, dict) else None
        return code if is_code(code) else None

    @staticmethod
    def transfer_item(order: Order, quoted: Quoted) -> dict[str, Any]:
        """Return one entry of a bulk transfer."""
        return {
            "transferId": order.transaction_id,
            "transferAmount": money(quoted.amount, quoted.currency),
            "ilpPacket": quoted.packet,
            "condition": quoted.condition,
        }

    @staticmethod
    def quote_item(order: Order, payer: Payer) -> dict[str, Any]:
        """Return one entry of a bulk quote."""
        kind: dict[str, Any] = {
            "scenario": payer.scenario,
            "initiator": "PAYER",
            "initiatorType": payer.initiator_type,
        }
        if payer.sub_scenario:
            kind["subScenario"] = payer.sub_scenario
        if payer.balance_of_payments:
            kind["balanceOfPayments"] = payer.balance_of_payments
        item: dict[str, Any] = {
            "quoteId": order.quote_id,
            "transactionId": order.transaction_id,
            "payee": {"partyIdInfo": party_info(order.payee)},
            "amountType": payer.amount_type,
            "amount": money(order.amount, order.currency),
            "transactionType": kind,
        }
        if order.payee_name:
            item["payee"]["name"] = order.payee_name
        if order.note:
            item["note"] = order.note
        return item


def money(amount: int, currency: str) -> dict[str, str]:
    """Return an amount of minor units as the standard's `Money`."""
    return {"currency": currency, "amount": amount_text(amount, currency)}


def party_info(party: Party) -> dict[str, str]:
    """Return the standard's `PartyIdInfo` of a party."""
    info = {"partyIdType": party.type, "partyIdentifier": party.identifier}
    if party.sub:
        info["partySubIdOrType"] = party.sub
    if party.fsp:
        info["fspId"] = party.fsp
    return info


def payer_party(payer: Payer) -> dict[str, Any]:
    """Return the payer as the standard's `Party`."""
    found: dict[str, Any] = {"partyIdInfo": party_info(payer.party)}
    if payer.name:
        found["name"] = payer.name
    return found


def _quoted(answer: dict[str, Any], expiration: object) -> Quoted:
    amount, currency = _money(answer.get("transferAmount"))
    receive = _optional_money(answer.get("payeeReceiveAmount"), currency)
    fee = _optional_money(answer.get("payeeFspFee"), currency)
    packet, condition = answer.get("ilpPacket"), answer.get("condition")
    if not isinstance(packet, str) or not isinstance(condition, str) or not HASH.fullmatch(condition):
        raise BodyInvalid("the packet or the condition is missing or malformed")
    try:
        expires_at = parse_moment(expiration)
    except ValueError:
        raise BodyInvalid("the expiration is missing or malformed") from None
    return Quoted(amount, currency, receive, fee, expires_at, packet, condition)


def _money(value: object) -> tuple[int, str]:
    found = _dict(value)
    try:
        return minor_units(found.get("amount"), found.get("currency")), str(found["currency"])
    except ValueError:
        raise BodyInvalid("an amount is malformed") from None


def _optional_money(value: object, currency: str) -> int | None:
    if value is None:
        return None
    amount, found = _money(value)
    if found != currency:
        raise BodyInvalid("the amounts are of different currencies")
    return amount


def _complex_name(party: dict[str, Any]) -> str | None:
    personal = party.get("personalInfo")
    name = personal.get("complexName") if isinstance(personal, dict) else None
    if not isinstance(name, dict):
        return None
    parts = [name.get(part) for part in ("firstName", "middleName", "lastName")]
    return " ".join(part for part in parts if isinstance(part, str)) or None


def _moment(value: object) -> Any:
    try:
        return parse_moment(value)
    except ValueError:
        return None


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BodyInvalid("a part that must be an object is missing or is not one")
    return value


def _list(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise BodyInvalid("a list of results is not one")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise BodyInvalid("a text is missing, empty or too long")
    return value


def _maybe(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 else None
