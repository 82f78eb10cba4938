"""How a payment order names its payee in a Mojaloop scheme."""

from __future__ import annotations

from collections.abc import Mapping

from canonical_model.account import Account, AccountKind
from canonical_model.payment import PaymentInstruction
from connectors.mojaloop.formats import PARTY_TYPES, PERSONAL_ID_TYPES, clipped, fits_path
from connectors.mojaloop.model import Party


class PayeeUnknown(ValueError):
    """An order that names nobody the scheme could look up; the text is a reason code."""


def payee_of(order: PaymentInstruction, identifier_types: Mapping[str, str]) -> Party:
    """Return whom to look up: the account of the order, else the first of the payee's identifiers a type is set for.

    Raises `PayeeUnknown`. The institution an account names is not taken over: the scheme's look-up decides.
    """
    if order.payee_account is not None:
        return _checked(_of_account(order.payee_account))
    for identifier in order.payee.identifiers:
        target = identifier_types.get(identifier.id_type)
        if target is not None:
            kind, _, sub = target.partition("/")
            return _checked(Party(kind, identifier.value.strip(), sub or None))
    raise PayeeUnknown("payee-not-addressable")


def _of_account(account: Account) -> Party:
    number = "".join(account.account_number.split())
    written = (account.id_type or "").upper()
    kind, _, sub = written.partition("/")
    if kind in PARTY_TYPES:
        if kind == "PERSONAL_ID" and sub not in PERSONAL_ID_TYPES:
            raise PayeeUnknown("payee-id-type")
        return Party(kind, number, sub or None)
    if written:
        raise PayeeUnknown("payee-id-type")
    by_kind = {
        AccountKind.MOBILE_MONEY: "MSISDN",
        AccountKind.ALIAS: "ALIAS",
        AccountKind.BANK: "ACCOUNT_ID",
    }
    found = by_kind.get(account.kind)
    if found is None:
        raise PayeeUnknown("payee-account-kind")
    return Party(found, number)


def _checked(party: Party) -> Party:
    if not all(fits_path(text) for text in (party.identifier, party.sub or "-")):
        raise PayeeUnknown("payee-identifier-invalid")
    return party


def shown_name(order: PaymentInstruction) -> str | None:
    """Return the payee's name as the order has it, in one line."""
    if order.payee_name is not None:
        return clipped(order.payee_name.display)
    return clipped(order.payee_account.holder_name) if order.payee_account else None
