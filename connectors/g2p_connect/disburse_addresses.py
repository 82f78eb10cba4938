"""Financial addresses of G2P Connect, `type:id@provider`, and the accounts of the canonical model they stand for.

The printed pattern of the standard forbids the colon its own examples have, so it is not enforced as printed
(../shared/standards/spdci/FACTS.md, section 12).
"""

from __future__ import annotations

import re
from typing import Final

from canonical_model.account import Account, AccountKind

LONGEST: Final = 200
_FORM: Final = re.compile(
    r"(?:(?P<type>[A-Za-z][A-Za-z0-9.-]{0,49}):)?(?P<id>[A-Za-z0-9][A-Za-z0-9._+-]{0,149})"
    r"@(?P<provider>[A-Za-z0-9][A-Za-z0-9.-]{0,99})"
)
_KINDS: Final[dict[str, tuple[AccountKind, str]]] = {
    "account": (AccountKind.BANK, "ACCOUNT_ID"),
    "iban": (AccountKind.BANK, "IBAN"),
    "mobile": (AccountKind.MOBILE_MONEY, "MSISDN"),
    "msisdn": (AccountKind.MOBILE_MONEY, "MSISDN"),
    "card": (AccountKind.CARD, "CARD"),
    "voucher": (AccountKind.VOUCHER, "VOUCHER"),
}
"""Address types that name an account itself; every other type is an alias its provider resolves."""
_TYPES: Final = {
    (AccountKind.BANK, "IBAN"): "iban",
    (AccountKind.BANK, None): "account",
    (AccountKind.MOBILE_MONEY, None): "mobile",
    (AccountKind.CARD, None): "card",
    (AccountKind.VOUCHER, None): "voucher",
}


def account_of(address: str) -> Account | None:
    """Return the account a financial address stands for, None when it is no such address."""
    found = _FORM.fullmatch(address)
    if found is None or len(address) > LONGEST:
        return None
    named = (found["type"] or "").lower()
    kind, id_type = _KINDS.get(named, (AccountKind.ALIAS, named.upper() or "ALIAS"))
    return Account(kind=kind, provider=found["provider"].lower(), id_type=id_type, account_number=found["id"])


def address_of(account: Account) -> str | None:
    """Return an account as a financial address, None when it has no provider or characters an address cannot hold."""
    if account.provider is None:
        return None
    id_type = account.id_type
    if account.kind is AccountKind.ALIAS:
        named = None if id_type in (None, "ALIAS") else id_type.lower()
    else:
        named = _TYPES.get((account.kind, id_type)) or _TYPES[account.kind, None]
    number = account.account_number
    if account.kind is AccountKind.MOBILE_MONEY:
        number = number.lstrip("+").replace(" ", "")
    address = f"{named + ':' if named else ''}{number}@{account.provider}"
    return address if account_of(address) is not None else None
