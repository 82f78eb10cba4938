"""Amounts on their way to and from a rail: exact decimals, and refused before anything is sent when they cannot be paid."""

from __future__ import annotations

from typing import Final

from canonical_model.money import Money
from connectors.errors import Refused

_DIGITS: Final = 18


def read(text: str, currency: str) -> Money:
    """Return the amount a rail wrote as a decimal text; raises `Refused` (`amount-unpayable`), nothing is ever rounded."""
    if sum(character.isdigit() for character in text) > _DIGITS:
        raise _unpayable(f"it has more than {_DIGITS} digits")
    try:
        return Money.parse(text, currency)
    except ValueError as error:
        raise _unpayable(str(error)) from None


def check(money: Money) -> None:
    """Raise `Refused` (`amount-unpayable`) for an amount no rail may be given: zero, negative, or of too many digits."""
    if money.minor_units <= 0:
        raise _unpayable("it is not above zero")
    if len(str(money.minor_units)) > _DIGITS:
        raise _unpayable(f"it has more than {_DIGITS} digits")


def shortest(money: Money) -> str:
    """Return the decimal text without trailing zeros (`1250.5`, `100`), as Mojaloop's Amount has it."""
    text = money.decimal()
    return text.rstrip("0").rstrip(".") if "." in text else text


def _unpayable(why: str) -> Refused:
    return Refused(
        f"An amount cannot be paid: {why}. Nothing was sent.",
        code="amount-unpayable",
        remedy="Correct the amount at its source; each currency has its own number of decimals.",
    )
