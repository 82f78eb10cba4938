"""The bulk transactions of the SDK scheme adapter: what the hub asks for, what the adapter calls back with, and what it means.

The adapter looks every payee up, asks for the quotes and pays, split by institution; after each of the first two it stops and
waits, since automatic acceptance is off in the request itself. It answers with 202 and tells everything else by
`PUT /bulkTransactions/{id}` at the hub. Its API has no question about a bulk: there is no `GET /bulkTransactions/{id}`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from connectors.mojaloop import ilp
from connectors.mojaloop.adapter import DONE, PARTY, QUOTE
from connectors.mojaloop.errors import is_code
from connectors.mojaloop.formats import amount_text, dumps, is_id, parse_moment
from connectors.mojaloop.fspiop import STATES, FspiopBodies, party_info, payer_party
from connectors.mojaloop.model import BodyInvalid, Order, Party, PartyFound, Payer, Quoted, Transferred

ERROR: Final = "ERROR_OCCURRED"
_STATES: Final = frozenset({PARTY, QUOTE, DONE, ERROR})
_BODIES: Final = FspiopBodies()


@dataclass(frozen=True, slots=True)
class Result:
    """One entry of a callback; what is missing or cannot be read is None.

    `asked` repeats amount type, currency and amount where the entry does; `failed` says that an error came along, `error` is its
    code.
    """

    transfer_id: str | None
    asked: tuple[Any, Any, Any]
    party: PartyFound | None
    quote_id: str | None
    quote: Quoted | None
    fulfil: Transferred | None
    failed: bool
    error: str | None

    def fits(self, order: Order, amount_type: str) -> bool:
        """Say whether the entry repeats what was ordered, as far as it repeats anything."""
        ordered = (amount_type, order.currency, amount_text(order.amount, order.currency))
        return all(told is None or told == own for told, own in zip(self.asked, ordered, strict=True))


@dataclass(frozen=True, slots=True)
class Report:
    """What a callback says of a bulk: its state and its entries by home id; None for one that contradicts another."""

    state: str
    results: Mapping[str, Result | None]


def bulk_item(home_id: str, order: Order, payer: Payer) -> dict[str, Any]:
    """Return one entry of `bulk_request`; `home_id` is what the institution's books and the hub know the payment by."""
    to: dict[str, Any] = {
        "partyIdInfo": party_info(Party(order.payee.type, order.payee.identifier, order.payee.sub))
    }
    if order.payee_name:
        to["name"] = order.payee_name
    item = {
        "homeTransactionId": home_id,
        "to": to,
        "amountType": payer.amount_type,
        "currency": order.currency,
        "amount": amount_text(order.amount, order.currency),
    }
    return item | ({"note": order.note} if order.note else {})


def bulk_request(bulk_id: str, items: Sequence[Any], payer: Payer, expiration: str) -> dict[str, Any]:
    """Return the body of `POST /bulkTransactions`; it moves no money, since nothing in it is accepted by itself."""
    return {
        "bulkTransactionId": bulk_id,
        "bulkHomeTransactionID": bulk_id,
        "options": {
            "autoAcceptParty": {"enabled": False},
            "autoAcceptQuote": {"enabled": False},
            "synchronous": False,
            "bulkExpiration": expiration,
        },
        "from": payer_party(payer),
        "individualTransfers": list(items),
    }


def continuation(accept: str, entries: Iterable[tuple[str, bool]]) -> bytes:
    """Return the bytes of `PUT /bulkTransactions/{id}`; `accept` is `acceptParty` or `acceptQuote`, the latter is what pays."""
    return dumps({"individualTransfers": [{"transferId": known, accept: yes} for known, yes in entries]})


def named(content: bytes) -> set[str]:
    """Return the payments the bytes of a call are for: home ids of those ordered, transfer ids of those accepted."""
    entries = orjson.loads(content)["individualTransfers"]
    return {
        entry.get("homeTransactionId") or entry["transferId"]
        for entry in entries
        if not {entry.get("acceptParty"), entry.get("acceptQuote")} & {False}
    }


def read(bulk_id: str, body: Mapping[str, Any]) -> Report:
    """Return what a callback says; raises `BodyInvalid` when it is about another bulk, or has no known state or list.

    Entries without a home id are passed over: nobody's. Two for one payment that differ, and two payments with one transfer, quote
    or condition, contradict each other: none of them says anything.
    """
    if body.get("bulkTransactionId") != bulk_id or body.get("bulkHomeTransactionID") != bulk_id:
        raise BodyInvalid("the body is about another bulk than the address")
    state, listed = body.get("currentState"), body.get("individualTransferResults")
    if not isinstance(state, str) or state not in _STATES:
        raise BodyInvalid("there is no known currentState")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise BodyInvalid("the list of results is missing or is not one")
    found: dict[str, Result | None] = {}
    for entry in listed:
        home_id = entry.get("homeTransactionId")
        if isinstance(home_id, str):
            result = _result(entry)
            found[home_id] = result if found.setdefault(home_id, result) == result else None
    shared = Counter(mark for result in found.values() if result is not None for mark in _marks(result))
    torn = {mark for mark, times in shared.items() if times > 1}
    clear = {
        home_id: None if result is None or not torn.isdisjoint(_marks(result)) else result
        for home_id, result in found.items()
    }
    return Report(state, clear)


def transaction_of(quoted: Quoted | None) -> str:
    """Return the transaction a quote's sealed terms name: the adapter made it, so there is nothing to compare it with."""
    try:
        named = ilp.read(quoted.packet if quoted else None).transaction.get("transactionId")
    except ValueError:
        return ""
    return named if isinstance(named, str) else ""


def error_code(body: Any) -> str | None:
    """Return the code in an error answer of the adapter, which has it as text in `statusCode`."""
    code = body.get("statusCode") if isinstance(body, dict) else None
    return code if is_code(code) else None


def _marks(result: Result) -> list[tuple[str, str]]:
    """Return what only one payment of a bulk can have."""
    condition = result.quote.condition if result.quote else None
    named = {"transfer": result.transfer_id, "quote": result.quote_id, "condition": condition}
    return [(kind, value) for kind, value in named.items() if value is not None]


def _result(entry: Mapping[str, Any]) -> Result:
    quote, fulfil = _dict(entry.get("quoteResponse")), _dict(entry.get("fulfil"))
    named = [name for name in (entry.get("quoteId"), quote.get("quoteId")) if name is not None]
    errors = [part["lastError"] for part in (entry, quote, fulfil) if part.get("lastError") is not None]
    codes = [_code(error) for error in errors]
    return Result(
        _id(entry.get("transferId")),
        (entry.get("amountType"), entry.get("currency"), entry.get("amount")),
        _party(entry.get("to")),
        _id(named[0]) if named and len(set(map(str, named))) == 1 else None,
        _quote(quote) if quote else None,
        _fulfil(fulfil) if fulfil else None,
        bool(errors),
        next((code for code in codes if code is not None), None),
    )


def _party(value: Any) -> PartyFound | None:
    try:
        return _BODIES.read_party({"party": value}) if value is not None else None
    except BodyInvalid:
        return None


def _quote(quote: Mapping[str, Any]) -> Quoted | None:
    """Return the terms of a quote; its end stands in the sealed terms, since the adapter's file has no member for it."""
    try:
        if quote.get("expiration") is None:
            expiration = ilp.read(quote.get("ilpPacket")).transaction.get("expiration")
            quote = {**quote, "expiration": expiration}
        return _BODIES.read_quote(quote)
    except (BodyInvalid, ValueError):
        return None


def _fulfil(fulfil: Mapping[str, Any]) -> Transferred | None:
    told, proof = fulfil.get("transferState"), fulfil.get("fulfilment")
    state = told if isinstance(told, str) and told in STATES else ""
    if not state and proof is None:
        return None
    try:
        completed = parse_moment(fulfil.get("completedTimestamp"))
    except ValueError:
        completed = None
    return Transferred(state, proof if isinstance(proof, str) else None, completed)


def _code(error: Any) -> str | None:
    return _BODIES.read_error(_dict(error).get("mojaloopError"))


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None
