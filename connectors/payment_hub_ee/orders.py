"""Payments as this rail orders them: who is paid by which mode, and the bodies of single payments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import orjson

from canonical_model.account import AccountKind
from canonical_model.payment import PaymentInstruction
from connectors.errors import Refused
from connectors.payment_hub_ee.batches import JSON_KEYS, is_whole, plain_amount, safe_field, safe_note
from connectors.payment_hub_ee.dialects import Dialect
from connectors.payment_hub_ee.model import Order
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payments import amounts

_TYPES: Final = {AccountKind.MOBILE_MONEY: "MSISDN"}
FUNCTIONAL_ID: Final = "PERSONAL_ID"
"""`partyIdType` of a payee that the server looks up in its mapper."""


def order_of(
    instruction: PaymentInstruction, request_id: str, settings: PaymentHubSettings, dialect: Dialect
) -> Order:
    """Return a payment as it will be ordered.

    Raises `Refused`: `amount-unpayable`, `payee-unwritable`, `payee-unaddressed` when it names nobody this rail can pay,
    `amount-has-decimals` where the target's settings say that decimals cannot be paid, `order-expired`.
    """
    amounts.check(instruction.amount)
    if instruction.expires_at is not None and instruction.expires_at <= datetime.now(UTC):
        raise Refused(
            "An order came too late to be paid.",
            code="order-expired",
            remedy="Pay the person with a new order, if it is still due.",
        )
    amount = plain_amount(instruction.amount.decimal())
    if settings.decimals == "refuse" and not is_whole(amount):
        raise Refused(
            "An amount has decimals, which this target's deployment cannot split.",
            code="amount-has-decimals",
            remedy="Pay whole amounts, or set decimals to small_files or channel for this target.",
        )
    account = instruction.payee_account
    if account is not None:
        kind = account.kind
        payee_type = account.id_type or settings.id_types.get(kind) or _TYPES.get(kind, "ACCOUNT_ID")
        payee_id = account.account_number
        if payee_type == "MSISDN":
            payee_id = payee_id.lstrip("+").replace(" ", "")
    else:
        payee_type, payee_id = FUNCTIONAL_ID, _functional_id(instruction, settings)
    return Order(
        request_id,
        mode_of(instruction, settings),
        safe_field(payee_type),
        safe_field(payee_id),
        amount,
        instruction.amount.currency,
        safe_note(instruction.note, dialect.note_length),
    )


def mode_of(instruction: PaymentInstruction, settings: PaymentHubSettings) -> str:
    """Return the payment mode of the payee's kind of account."""
    account = instruction.payee_account
    return (
        settings.payment_mode if account is None else settings.modes.get(account.kind, settings.payment_mode)
    )


def is_single(instruction: PaymentInstruction, batch_id: str | None, settings: PaymentHubSettings) -> bool:
    """Say whether a payment goes through the channel by itself: no part of a batch, or decimals that must not be split."""
    if batch_id is None:
        return settings.singles == "channel"
    return settings.decimals == "channel" and not is_whole(plain_amount(instruction.amount.decimal()))


def transfer_body(order: Order, settings: PaymentHubSettings) -> bytes:
    """Return the body of one payment at the channel; mode `gsma` has its own shape."""
    payer_type, payer_id = settings.payer_id_type or "", settings.payer_id or ""
    if order.mode.lower() == "gsma":
        body: dict[str, object] = {
            "amount": order.amount,
            "currency": order.currency,
            "type": "transfer",
            "subType": "benefit",
            "descriptionText": order.note,
            "requestingOrganisationTransactionReference": order.request_id,
            "debitParty": _party(payer_type, payer_id),
            "creditParty": _party(order.payee_type, order.payee_id),
        }
        return orjson.dumps(body)
    body = {
        "payer": {"partyIdInfo": {"partyIdType": payer_type, "partyIdentifier": payer_id}},
        "payee": {"partyIdInfo": {"partyIdType": order.payee_type, "partyIdentifier": order.payee_id}},
        "amount": {"amount": order.amount, "currency": order.currency},
        "note": order.note,
        "clientRefId": order.request_id,
    }
    return orjson.dumps(body)


def _party(kind: str, value: str) -> list[dict[str, str]]:
    return [{"key": JSON_KEYS.get(kind.upper(), kind.lower()), "value": value}]


def _functional_id(instruction: PaymentInstruction, settings: PaymentHubSettings) -> str:
    known = {str(one.id_type): one.value for one in instruction.payee.identifiers}
    for name in settings.identifiers:
        if settings.registering_institution and name in known:
            return str(known[name])
    raise Refused(
        "A payee has neither an account nor an identifier this target may look up.",
        code="payee-unaddressed",
        remedy="Give the payee an account, or set identifiers and registering_institution for this target.",
    )
