"""Accounts and wallets people are paid into."""

from __future__ import annotations

from enum import StrEnum

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, Text
from canonical_model.money import CurrencyCode


class AccountKind(StrEnum):
    """What kind of account it is."""

    BANK = "bank"
    MOBILE_MONEY = "mobile_money"
    CARD = "card"
    VOUCHER = "voucher"
    ALIAS = "alias"


class Account(CanonicalModel):
    """An account, wallet or payment alias of a person at a financial service provider."""

    kind: AccountKind = private(Privacy.PUBLIC)
    provider: Code | None = private(
        Privacy.PUBLIC, default=None, description="Code of the financial service provider."
    )
    branch: Code | None = private(Privacy.FINANCIAL, default=None)
    id_type: Code | None = private(
        Privacy.PUBLIC,
        default=None,
        description="Scheme of the number: IBAN, MSISDN, ACCOUNT_ID, ALIAS and so on.",
    )
    account_number: Text = private(
        Privacy.FINANCIAL, description="Number, phone number or alias as the provider has it."
    )
    holder_name: Text | None = private(Privacy.PERSONAL, default=None)
    currency: CurrencyCode | None = private(Privacy.PUBLIC, default=None)
