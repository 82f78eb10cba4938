"""The outbound API of the SDK scheme adapter, as a payer's backend uses it: one question at a time, each answered at once.

The adapter must run with automatic acceptance off (`AUTO_ACCEPT_PARTY`, `AUTO_ACCEPT_QUOTES`): then creating a transfer moves
no money, its id is known before any does, and only `acceptQuote` pays. `POST /transfers` is not idempotent, so it is never
made a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.mojaloop.client import Answer
from connectors.mojaloop.errors import is_code
from connectors.mojaloop.formats import amount_text, is_id
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.model import BodyInvalid, Order, Party, PartyFound, Payer, Quoted, Transferred

PARTY: Final = "WAITING_FOR_PARTY_ACCEPTANCE"
QUOTE: Final = "WAITING_FOR_QUOTE_ACCEPTANCE"
DONE: Final = "COMPLETED"
ABORTED: Final = "ABORTED"
_BODIES: Final = FspiopBodies()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a transfer stands at the adapter; `error` is a code of the scheme, `open` says that money may have moved."""

    state: str
    transfer_id: str | None = None
    party: PartyFound | None = None
    quote_id: str | None = None
    quote: Quoted | None = None
    fulfil: Transferred | None = None
    error: str | None = None
    open: bool = False


def transfer_request(home_id: str, order: Order, payer: Payer) -> dict[str, Any]:
    """Return the body of `POST /transfers`; `home_id` is what the institution's books and the hub know the payment by."""
    request: dict[str, Any] = {
        "homeTransactionId": home_id,
        "from": _party(payer.party, payer.name) | {"type": payer.initiator_type},
        "to": _party(order.payee, order.payee_name),
        "amountType": payer.amount_type,
        "currency": order.currency,
        "amount": amount_text(order.amount, order.currency),
        "transactionType": payer.scenario,
    }
    if payer.sub_scenario:
        request["subScenario"] = payer.sub_scenario
    if order.note:
        request["note"] = order.note
    return request


def read(answer: Answer) -> Progress:
    """Return what an answer to `POST` or `PUT /transfers` says.

    A 4xx and an error code of the scheme are final; a time-out (504) and a 500 without such a code leave open what happened.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.status == 200:
        return _progress(body)
    state = body.get("transferState")
    known = _progress(state) if isinstance(state, dict) else Progress("ERROR_OCCURRED")
    code = body.get("statusCode")
    if is_code(code):
        return _with(known, str(code), is_open=answer.status == 504)
    return _with(known, None, is_open=answer.status >= 500)


def read_status(answer: Answer) -> Progress:
    """Return what `GET /transfers/{transferId}` says of a transfer."""
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.status != 200:
        code = body.get("statusCode")
        return Progress("ERROR_OCCURRED", error=str(code) if is_code(code) else None, open=True)
    return _progress(body)


def _progress(body: Mapping[str, Any]) -> Progress:
    transfer_id = body.get("transferId")
    return Progress(
        str(body.get("currentState", ""))[:64],
        transfer_id if isinstance(transfer_id, str) and is_id(transfer_id) else None,
        _read(_BODIES.read_party, _inner(body.get("getPartiesResponse"))),
        _quote_id(body),
        _read(_BODIES.read_quote, _inner(body.get("quoteResponse"))),
        _read(_BODIES.read_transfer, _inner(body.get("fulfil"))),
        _last_error(body),
    )


def _with(known: Progress, code: str | None, *, is_open: bool) -> Progress:
    return Progress(
        "ERROR_OCCURRED",
        known.transfer_id,
        known.party,
        known.quote_id,
        known.quote,
        known.fulfil,
        code or known.error,
        is_open,
    )


def _last_error(body: Mapping[str, Any]) -> str | None:
    last = body.get("lastError")
    told = last.get("mojaloopError") if isinstance(last, dict) else None
    return _BODIES.read_error(told)


def _quote_id(body: Mapping[str, Any]) -> str | None:
    value = body.get("quoteId")
    return value if isinstance(value, str) and is_id(value) else None


def _inner(value: Any) -> Any:
    return value.get("body") if isinstance(value, dict) else None


def _read(reader: Any, body: Any) -> Any:
    if body is None:
        return None
    try:
        return reader(body)
    except BodyInvalid:
        return None


def _party(party: Party, name: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"idType": party.type, "idValue": party.identifier}
    if party.sub:
        found["idSubValue"] = party.sub
    if name:
        found["displayName"] = name
    return found
