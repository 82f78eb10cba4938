"""Bulk payments and beneficiaries in the two spellings of GovStack, read into orders and links."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from adapters.dci.envelope import refuse
from adapters.g2p.disburse_reading import MAX_ITEMS, money_of, order_of
from adapters.g2p.govstack_profile import GovstackProfile
from adapters.http.body import parse_json
from canonical_model.account import Account, AccountKind
from canonical_model.errors import Defect
from canonical_model.money import Money
from connectors.g2p_connect.disburse_addresses import account_of
from routing.disbursements import Item, Order

INVALID: Final = "govstack-request-invalid"
_LONGEST: Final = 50
_ACCOUNTS: Final = {
    "msisdn": (AccountKind.MOBILE_MONEY, "MSISDN"),
    "accountnumber": (AccountKind.BANK, "ACCOUNT_ID"),
    "accountid": (AccountKind.BANK, "ACCOUNT_ID"),
}
"""Keys of a party that name an account, in lower case; any of `_IDS` names a person."""
_IDS: Final = frozenset({"functionalid", "payeefunctionalid", "payeeidentity", "personalid"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """One payment of a bulk, in either spelling; `fault` says what is wrong with it."""

    reference: str
    functional_id: str | None = field(default=None, repr=False)
    account: Account | None = field(default=None, repr=False)
    payer: Account | None = field(default=None, repr=False)
    money: Money | None = field(default=None, repr=False)
    note: str | None = field(default=None, repr=False)
    words: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Beneficiary:
    """One beneficiary to be registered."""

    functional_id: str = field(repr=False)
    modality: str
    address: str = field(repr=False)


def read_json(raw: bytes) -> Any:
    """Return the JSON of a body with its amounts as they were written; raises `RequestRefused`."""
    parse_json(raw)
    return json.loads(raw, parse_float=Decimal)


def text_of(value: Any, at: str, length: int, profile: GovstackProfile) -> str:
    """Return an id of the printed length; raises `RequestRefused` with its place."""
    if not _fits(value, length, profile):
        exactly = str(length) if profile.exact_lengths else f"1 to {_LONGEST}"
        refuse(at, f"the field is a text of {exactly} characters", INVALID)
    return str(value)


def _fits(value: Any, length: int, profile: GovstackProfile) -> bool:
    low, high = (length, length) if profile.exact_lengths else (1, _LONGEST)
    return isinstance(value, str) and low <= len(value) <= high and value.isprintable()


def list_of(value: Any, at: str) -> list[Any]:
    """Return a list of 1 to 1,000 objects; raises `RequestRefused`."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
        refuse(at, f"there is a list of 1 to {MAX_ITEMS} here", INVALID)
    if not all(isinstance(one, dict) for one in value):
        refuse(at, "each entry is an object", INVALID)
    return value


def read_credits(body: Mapping[str, Any], profile: GovstackProfile) -> list[Instruction]:
    """Return the CreditInstructions of a bulk payment or its validation."""
    found = []
    for number, one in enumerate(list_of(body.get("CreditInstructions"), "/CreditInstructions")):
        at = f"/CreditInstructions/{number}"
        reference = text_of(one.get("InstructionID"), f"{at}/InstructionID", 16, profile)
        functional = one.get("PayeeFunctionalID")
        note = one.get("Narration") or None
        fault = None if _fits(functional, 20, profile) else "PayeeFunctionalID"
        if note is not None and (not isinstance(note, str) or len(note) > _LONGEST):
            fault, note = "Narration", None
        money = _money(one.get("Amount"), one.get("Currency"))
        words = {name: str(value) for name, value in one.items() if value is not None}
        found.append(
            Instruction(
                reference, functional, None, _payer(profile), money, note, words, fault or (None if money else "Amount"),
            )
        )  # fmt: skip
    return _apart(found)


def read_batch(body: Any, profile: GovstackProfile) -> list[Instruction]:
    """Return the instructions of `batchtransactions`."""
    found = []
    for number, one in enumerate(list_of(body, "")):
        reference = one.get("requestId")
        if (
            not isinstance(reference, str)
            or not 0 < len(reference) <= _LONGEST
            or not reference.isprintable()
        ):
            refuse(f"/{number}/requestId", "each instruction has an id", INVALID)
        payee, payer = _party(one.get("creditParty")), _party(one.get("debitParty"))
        money, note = _money(one.get("amount"), one.get("currency")), one.get("descriptionText") or None
        fault = None if money else "amount"
        if payee is None:
            fault = "creditParty"
        if note is not None and (not isinstance(note, str) or len(note) > _LONGEST):
            fault, note = "descriptionText", None
        functional = payee if isinstance(payee, str) else None
        account = payee if isinstance(payee, Account) else None
        words = {name: str(value) for name, value in one.items() if value is not None}
        found.append(
            Instruction(
                reference, functional, account, payer if isinstance(payer, Account) else _payer(profile), money, note,
                words, fault,
            )
        )  # fmt: skip
    return _apart(found)


def read_beneficiaries(body: Mapping[str, Any], profile: GovstackProfile, id_name: str) -> list[Beneficiary]:
    """Return the beneficiaries of a registration; `id_name` is how the dialect spells the functional id."""
    found = []
    for number, one in enumerate(list_of(body.get("Beneficiaries"), "/Beneficiaries")):
        at = f"/Beneficiaries/{number}"
        modality, address = one.get("PaymentModality"), one.get("FinancialAddress")
        if not isinstance(modality, str) or len(modality) != 2:
            refuse(f"{at}/PaymentModality", "the modality has two digits", INVALID)
        if not isinstance(address, str) or not 0 < len(address) <= (30 if profile.exact_lengths else 200):
            refuse(f"{at}/FinancialAddress", "the address is a text of at most 30 characters", INVALID)
        functional = one.get(id_name)
        if id_name == "PayeeFunctionalID":
            functional = text_of(functional, f"{at}/{id_name}", 20, profile)
        elif not isinstance(functional, str) or not 0 < len(functional) <= _LONGEST:
            refuse(f"{at}/{id_name}", "the identity is a text", INVALID)
        found.append(Beneficiary(functional, modality, address))
    return found


def orders_of(
    instructions: Sequence[Instruction],
    profile: GovstackProfile,
    partner: str,
    batch_id: str,
    now: datetime,
    trace: str | None,
) -> list[Order | Item]:
    """Return an order for each instruction; a payee without an account is named by its functional id."""
    orders: list[Order | Item] = []
    for one in instructions:
        if one.money is None:
            raise Defect("An instruction without an amount was not refused.")
        value = one.functional_id or (one.account.account_number if one.account else "")
        kind = profile.id_type if one.functional_id else (one.account.id_type if one.account else None)
        data: dict[str, Any] = {
            "payee": {"identifiers": [{"id_type": kind or profile.id_type, "value": value}]},
            "amount": one.money.model_dump(mode="json"),
        }
        if one.account is not None:
            data["payee_account"] = one.account.model_dump(mode="json", exclude_none=True)
        if one.payer is not None:
            data["payer_account"] = one.payer.model_dump(mode="json", exclude_none=True)
        if one.note:
            data["note"] = one.note
        words = {**one.words, "reference_id": one.reference}
        orders.append(order_of(one.reference, data, words, partner, batch_id, now, trace))
    return orders


def _apart(found: list[Instruction]) -> list[Instruction]:
    """Refuse a bulk that has an id twice or several currencies: its results are told as one sum."""
    if len({one.reference for one in found}) < len(found):
        refuse("", "each instruction has an id of its own", INVALID)
    if len({one.money.currency for one in found if one.money}) > 1:
        refuse("", "the instructions of one batch have one currency", INVALID)
    return found


def _money(amount: Any, currency: Any) -> Money | None:
    if isinstance(amount, bool) or not isinstance(amount, (int, Decimal)) or not isinstance(currency, str):
        return None
    if isinstance(amount, Decimal) and (not amount.is_finite() or abs(amount.adjusted()) > 18):
        return None
    money = money_of(format(amount, "f") if isinstance(amount, Decimal) else str(amount), currency)
    return money if isinstance(money, Money) else None


def _payer(profile: GovstackProfile) -> Account | None:
    return None if profile.payer_fa is None else account_of(profile.payer_fa)


def _party(value: Any) -> Account | str | None:
    """Return the account a party names, or the functional id; None when it names neither."""
    if not isinstance(value, list) or not 0 < len(value) <= 5:
        return None
    for one in value:
        key, named = (one.get("key"), one.get("value")) if isinstance(one, dict) else (None, None)
        if not isinstance(key, str) or not isinstance(named, str) or not 0 < len(named) <= 100:
            return None
        if not named.isprintable():
            return None
        if (account := _ACCOUNTS.get(key.lower())) is not None:
            return Account(kind=account[0], id_type=account[1], account_number=named)
        if key.lower() in _IDS:
            return named
    return None
