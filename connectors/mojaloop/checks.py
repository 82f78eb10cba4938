"""What the hub looks at before it goes on: does an answer fit what was asked, and may the payment cost that much."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from connectors.mojaloop import ilp
from connectors.mojaloop.formats import minor_units
from connectors.mojaloop.model import BodyInvalid, Dialect, Order, Party, PartyFound, Quoted
from connectors.mojaloop.settings import MojaloopSettings


def party_fault(asked: Party, found: PartyFound, currency: str) -> str | None:
    """Return the reason why a look-up's answer cannot be used, or None: another person, no institution, another currency."""
    if asked.sub is None or found.party.sub is None:
        same = Party(asked.type, asked.identifier).same_person(
            Party(found.party.type, found.party.identifier)
        )
    else:
        same = asked.same_person(found.party)
    if not same:
        return "party-differs"
    if found.currencies and currency not in found.currencies:
        return "party-currency"
    return None


def quote_fault(
    settings: MojaloopSettings, order: Order, quoted: Quoted, now: datetime | None = None
) -> str | None:
    """Return the reason why a quote is not used, or None.

    Looked at: the currency, the cost within the limit, the amount that arrives, the expiry, and the sealed terms, which must
    name the same quote, transaction, payee and amount.
    """
    if quoted.currency != order.currency:
        return "quote-currency"
    limit = max(settings.fee_limit, int(order.amount * settings.fee_limit_percent / 100))
    if settings.amount_type == "RECEIVE":
        if not order.amount - (quoted.fee or 0) <= quoted.amount <= order.amount + limit:
            return "quote-cost"
        if quoted.receive is not None and quoted.receive != order.amount:
            return "quote-arrives"
    else:
        if quoted.amount > order.amount:
            return "quote-cost"
        if quoted.receive is not None and not order.amount - limit <= quoted.receive <= order.amount:
            return "quote-arrives"
    if quoted.expires_at <= (now or datetime.now(UTC)):
        return "quote-expired"
    return _terms_fault(order, quoted)


def _terms_fault(order: Order, quoted: Quoted) -> str | None:
    try:
        terms = ilp.read(quoted.packet)
    except ValueError:
        return "quote-packet"
    named = terms.transaction
    if named.get("quoteId") != order.quote_id or named.get("transactionId") != order.transaction_id:
        return "quote-ids"
    payee = _party(named.get("payee"))
    if payee is None or not payee.same_person(order.payee):
        return "quote-payee"
    if payee.fsp and order.payee.fsp and payee.fsp != order.payee.fsp:
        return "quote-payee"
    if terms.condition is not None and terms.condition != quoted.condition:
        return "quote-condition"
    amount: Any = named.get("amount")
    try:
        named_amount = minor_units(amount.get("amount"), amount.get("currency"))
    except (ValueError, AttributeError):
        return "quote-packet"
    same = named_amount == terms.amount == quoted.amount and amount["currency"] == quoted.currency
    return None if same else "quote-amount"


def _party(value: Any) -> Party | None:
    info = value.get("partyIdInfo") if isinstance(value, dict) else None
    if not isinstance(info, dict):
        return None
    texts = [info.get(name) for name in ("partyIdType", "partyIdentifier")]
    if not all(isinstance(text, str) for text in texts):
        return None
    return Party(str(texts[0]), str(texts[1]), info.get("partySubIdOrType"), info.get("fspId"))


def proof_fault(dialect: Dialect, body: Any, condition: str) -> tuple[str, str | None]:
    """Return the state a transfer's answer tells and the reason why it proves no payment, or None.

    Paid is a transfer that is COMMITTED and whose fulfilment hashes to the condition; COMMITTED alone says nothing.
    """
    try:
        answer = dialect.read_transfer(body)
    except BodyInvalid:
        return "", "answer-unreadable"
    if answer.state != "COMMITTED":
        return answer.state, "not-committed"
    if answer.fulfilment is None:
        return answer.state, "fulfilment-missing"
    return answer.state, None if ilp.fulfils(answer.fulfilment, condition) else "fulfilment-wrong"
