"""Disburse messages of G2P Connect, read field by field: what is wrong with one order refuses that order alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from adapters.dci.envelope import (
    MAX_ID,
    MAX_TRANSACTION,
    Reader,
    an_object,
    check_header,
    is_encrypted,
    refuse,
)
from adapters.g2p.disburse_profile import DisburseProfile
from canonical_model.account import Account
from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.money import Money
from canonical_model.types import check_data
from connectors.g2p_connect.disburse_addresses import account_of
from routing.disbursements import Item, Order
from routing.intake import CHUNK

MAX_ITEMS: Final = 1000
"""Orders, criteria or references of one message."""
ORDERED: Final = "org.openspp.payment.instructed.v1"
_STRICT: Final = re.compile(r"[0-9]{1,13}\.[0-9]{1,2}", re.ASCII)
_LOOSE: Final = re.compile(r"[0-9]{1,13}(\.[0-9]{1,2})?", re.ASCII)
_LANGUAGE: Final = re.compile(r"[a-z]{3}")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:#/|+-]{0,98}")
_TEXTS: Final = (
    ("payer_name", 200),
    ("payee_name", 200),
    ("note", 99),
    ("purpose", 99),
    ("instruction", 999),
)
_ORDER: Final = frozenset(
    {"reference_id", "payer_fa", "payee_fa", "amount", "currency_code", "scheduled_timestamp", "locale"}
    | {name for name, _ in _TEXTS}
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A checked envelope: who sent it, where its callback is to go, and its message."""

    message_id: str
    sender_id: str | None
    sender_uri: str | None
    transaction_id: str
    message: dict[str, Any] = field(repr=False)


def read_envelope(
    envelope: Any, profile: DisburseProfile, now: datetime, actions: Sequence[str], items: str
) -> Envelope:
    """Return the message of an envelope; `items` names its list, which `total_count` counts.

    Raises `RequestRefused` with the place of the first fault.
    """
    if not isinstance(envelope, dict):
        refuse("", "the envelope is a JSON object")
    header = an_object(envelope.get("header"), "/header")
    reader = Reader(profile.tolerant)
    message_id = reader.text(header.get("message_id"), "/header/message_id", MAX_ID)
    if message_id is None:
        refuse("/header/message_id", "the message has an id")
    check_header(header, profile, reader, now, actions)
    if is_encrypted(header, envelope.get("message")):
        refuse("/message", "encrypted messages are not read by this hub", "dci-encryption-unsupported")
    message = an_object(envelope.get("message"), "/message")
    transaction = reader.text(message.get("transaction_id"), "/message/transaction_id", MAX_TRANSACTION)
    if transaction is None:
        refuse("/message/transaction_id", "the transaction has an id")
    found = message.get(items)
    count = len(found) if isinstance(found, list) else 1
    if isinstance(found, list) and not 0 < count <= MAX_ITEMS:
        refuse(
            "/header/total_count",
            f"rjct.total_count.limit_exceeded: a message holds 1 to {MAX_ITEMS} requests",
            "dci-total-count-invalid",
        )
    announced = reader.number(header.get("total_count"), "/header/total_count")
    if announced != count and not (announced is None and profile.tolerant):
        refuse(
            "/header/total_count",
            "rjct.total_count.invalid: total_count is the number of requests",
            "dci-total-count-invalid",
        )
    return Envelope(
        message_id,
        reader.text(header.get("sender_id"), "/header/sender_id", 500),
        reader.text(header.get("sender_uri"), "/header/sender_uri", 2000),
        transaction,
        message,
    )


async def read_orders(
    read: Envelope, profile: DisburseProfile, partner: str, now: datetime, trace: str | None
) -> list[Order | Item]:
    """Return an order or a refusal for each disbursement, in their order; raises `RequestRefused` for what is no list of them."""
    found = read.message.get("disbursements")
    if not isinstance(found, list):
        refuse("/message/disbursements", "the disbursements are a list")
    seen: set[str] = set()
    orders: list[Order | Item] = []
    for number, one in enumerate(found):
        if number % CHUNK == CHUNK - 1:
            await asyncio.sleep(0)  # a long list must not hold up every other caller
        at = f"/message/disbursements/{number}"
        item = an_object(one, at)
        reference = item.get("reference_id")
        if not isinstance(reference, str):
            refuse(f"{at}/reference_id", "rjct.reference_id.invalid: each request has a reference id")
        order = _order(item, at, reference, seen, profile, now)
        if isinstance(order, Mapping):
            orders.append(order_of(reference, order, _kept(item), partner, read.transaction_id, now, trace))
        else:
            orders.append(order)
        seen.add(reference)
    return orders


def order_of(
    reference: str,
    data: Mapping[str, Any],
    words: Mapping[str, Any],
    partner: str,
    transaction_id: str,
    now: datetime,
    trace: str | None,
) -> Order | Item:
    """Return the order whose payment is `data`; the canonical model's own refusal refuses it alone."""
    payment_id = str(uuid7())
    whole = {"payment_id": payment_id, **data}
    try:
        check_data(ORDERED, whole)
    except Refused:
        return Item(reference, None, "rjct.payee_fa.invalid", "the order cannot be paid as it is written")
    message = Message(
        source=partner,
        type=ORDERED,
        subject=payment_id,
        time=now,
        traceparent=trace,
        correlationid=transaction_id,
        originid=f"disburse/{payment_id}",
        data=whole,
    )
    body = orjson.dumps(words, option=orjson.OPT_SORT_KEYS)
    payer, payee = words.get("payer_fa"), words.get("payee_fa")
    return Order(reference, message, body, words, payer, payee)


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name in _ORDER and value is not None}


def _order(
    item: Mapping[str, Any],
    at: str,
    reference: str,
    seen: Collection[str],
    profile: DisburseProfile,
    now: datetime,
) -> dict[str, Any] | Item:
    """Return the data of the payment a disbursement orders, or why it is refused."""
    if not 0 < len(reference) <= MAX_ID or not reference.isprintable():
        return Item(reference, None, "rjct.reference_id.invalid", f"an id has 1 to {MAX_ID} characters")
    if reference in seen:
        return Item(reference, None, "rjct.reference_id.duplicate", "the message has it twice")
    reader = Reader(profile.tolerant)
    texts = {name: reader.text(item.get(name), f"{at}/{name}", limit) for name, limit in _TEXTS}
    payer, payee = _account(item.get("payer_fa")), _account(item.get("payee_fa"))
    if payer is None or (profile.payers is not None and item["payer_fa"].lower() not in profile.payers):
        return Item(reference, None, "rjct.payer_fa.invalid", "not an address this partner may pay from")
    if payee is None:
        return Item(reference, None, "rjct.payee_fa.invalid", "an address is written type:id@provider")
    currency = item.get("currency_code") or profile.currency
    if not isinstance(currency, str):
        return Item(reference, None, "rjct.currency_code.invalid", "the order names no currency")
    form = _LOOSE if profile.tolerant else _STRICT
    amount = item.get("amount")
    if not isinstance(amount, str) or not form.fullmatch(amount):
        return Item(
            reference, None, "rjct.amount.invalid", "an amount is a text of digits with one or two decimals"
        )
    money = money_of(amount, currency)
    if isinstance(money, str):
        return Item(
            reference, None, money, "the currency is unknown or has fewer decimals, or nothing is paid"
        )
    when = item.get("scheduled_timestamp")
    if when is not None:
        moment = reader.instant(when, f"{at}/scheduled_timestamp", now)
        if moment is not None and moment > now + timedelta(seconds=profile.skew_seconds):
            return Item(
                reference, None, "rjct.schedule_ts.invalid", "this hub pays at once; order when it is due"
            )
    return payment_data(money, payer, payee, texts, None if when is None else now)


def payment_data(
    money: Money,
    payer: Account | None,
    payee: Account,
    texts: Mapping[str, str | None],
    when: datetime | None,
) -> dict[str, Any]:
    """Return the data of `payment.instructed` without its id."""
    data: dict[str, Any] = {
        "payee": {"identifiers": [{"id_type": payee.id_type, "value": payee.account_number}]},
        "payee_account": payee.model_dump(mode="json", exclude_none=True),
        "amount": money.model_dump(mode="json"),
    }
    if payer is not None:
        data["payer_account"] = payer.model_dump(mode="json", exclude_none=True)
        if texts.get("payer_name"):
            data["payer_account"]["holder_name"] = texts["payer_name"]
    if texts.get("payee_name"):
        data["payee_name"] = {"full_name": texts["payee_name"]}
    purpose = texts.get("purpose")
    if purpose and _CODE.fullmatch(purpose):
        data["purpose"] = purpose
    if note := texts.get("note") or purpose:
        data["note"] = note
    if when is not None:
        data["execution_date"] = when.astimezone(UTC).date().isoformat()
    return data


def money_of(amount: str, currency: str) -> Money | str:
    """Return an amount as money, or the standard's code of what is wrong with it; nothing is ever rounded."""
    whole, _, fraction = amount.partition(".")
    try:
        # The standard's form has decimals always; a currency without them is written with zeros.
        money = Money.parse(amount, currency)
    except ValueError:
        try:
            if fraction.strip("0"):
                raise
            money = Money.parse(whole, currency)
        except ValueError:
            known = _known(currency)
            return "rjct.amount.invalid" if known else "rjct.currency_code.invalid"
    return money if money.minor_units > 0 else "rjct.amount.invalid"


def _known(currency: str) -> bool:
    try:
        Money.parse("1", currency)
    except ValueError:
        return False
    return True


def _account(address: Any) -> Account | None:
    return account_of(address) if isinstance(address, str) else None


def language_of(value: Any) -> str | None:
    """Return a language code as the standard writes it (ISO 639-3), None for anything else."""
    return value if isinstance(value, str) and _LANGUAGE.fullmatch(value) else None
