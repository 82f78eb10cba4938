"""What may not lie in clear: names, identifiers, contact points, addresses and accounts have sealed places of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from canonical_model.base import Privacy

_FIELDS: Final = (
    (re.compile(r"(^|_)(name|names|surname|firstname|lastname|nickname)$"), "names", "a name"),
    (
        re.compile(r"(^|_)(phone|mobile|msisdn|telephone|email|mail|whatsapp)(_number|_no|_address)?$"),
        "contact_points",
        "a contact point",
    ),
    (re.compile(r"(^|_)(address|street|house_number|postcode|zip)$"), "addresses", "an address"),
    (
        re.compile(r"(^|_)(iban|account|account_number|account_no|wallet|card_number)$"),
        "accounts",
        "an account",
    ),
    (
        re.compile(
            r"(^|_)(national_id|id_number|id_no|passport|passport_number|nin|uin|ssn|tin|tax_id|voter_id|licence_number)$"
        ),
        "identifiers",
        "an identifier",
    ),
)
_SEALED: Final = {Privacy.IDENTIFIER.value: "identifiers", Privacy.CONTACT.value: "contact_points"}


def misplaced(name: str, rule: Mapping[str, Any]) -> str | None:
    """Return why an attribute may not lie in clear, with the field where its value belongs; None when it may.

    Booleans and codes are never refused: they say that there is a phone, not which.
    """
    free = not {"enum", "format", "x-vocabulary"} & set(rule) and rule["type"] in {"string", "integer"}
    privacy = rule.get("x-privacy", Privacy.PERSONAL.value)
    if privacy in _SEALED:
        return f"the class `{privacy}` never lies in clear; send such values in `{_SEALED[privacy]}`, which is sealed"
    if privacy == Privacy.FINANCIAL.value and free and rule["type"] == "string":
        return "a free text of the class `financial` never lies in clear; send accounts in `accounts`, or use a number"
    if free:
        for pattern, place, what in _FIELDS:
            if pattern.search(name):
                return f"looks like {what}, which never lies in clear; send it in `{place}`, or choose another name"
    return None
