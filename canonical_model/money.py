"""Money as whole minor units of an ISO 4217 currency."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private

_BY_DIGITS: Final[dict[int, str]] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    # ANG and BGN are withdrawn but still stand in records.
    2: """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV
    MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
    STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG""",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

MINOR_UNIT_DIGITS: Final[dict[str, int]] = {
    code: digits for digits, codes in _BY_DIGITS.items() for code in codes.split()
}
"""Decimals of each currency, from ISO 4217 list one; codes without minor units (gold, test codes) are not money here."""

_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]{1,18}))?\Z", re.ASCII)
# Fits a PostgreSQL bigint and every JSON reader that counts in 53 bits.
_LIMIT: Final = 2**53 - 1


def minor_unit_digits(currency: str) -> int:
    """Return how many decimals a currency has; raises `ValueError` for an unknown code."""
    try:
        return MINOR_UNIT_DIGITS[currency]
    except KeyError:
        raise ValueError("not a currency of ISO 4217 with minor units") from None


def _known(code: str) -> str:
    if code not in MINOR_UNIT_DIGITS:
        raise PydanticCustomError("currency_code", "Input should be an ISO 4217 currency code")
    return code


CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_known)]
"""An ISO 4217 alphabetic code."""

MinorUnits = Annotated[int, Field(strict=True, ge=-_LIMIT, le=_LIMIT)]
"""A whole number of minor units (centavos, fils), at most 2^53 - 1 either way."""


class Money(CanonicalModel):
    """An amount of money: whole minor units and a currency, never a fraction."""

    minor_units: MinorUnits = private(Privacy.FINANCIAL, description="Amount in minor units of the currency.")
    currency: CurrencyCode = private(Privacy.PUBLIC, description="ISO 4217 alphabetic code.")

    @classmethod
    def parse(cls, amount: str, currency: str) -> Money:
        """Build from a decimal text such as `1250.50`, exactly.

        Raises `ValueError`, which does not repeat the amount: not a decimal, an unknown currency, or more decimals than
        the currency has (`1.5` of JPY, `1.2345` of BHD); zeros beyond are refused too, nothing is ever rounded.
        """
        digits = minor_unit_digits(currency)
        match = _DECIMAL.match(amount)
        if match is None:
            raise ValueError("not a decimal amount")
        sign, whole, fraction = match[1], match[2], match[3] or ""
        if len(fraction) > digits:
            raise ValueError(f"{currency} has {digits} decimals, the amount has more")
        units = int(whole + fraction.ljust(digits, "0"))
        if units > _LIMIT:
            raise ValueError("the amount is too large")
        return cls(minor_units=-units if sign else units, currency=currency)

    def decimal(self) -> str:
        """Return the amount as a decimal text with all the decimals of its currency: `1250.50`."""
        digits = MINOR_UNIT_DIGITS[self.currency]
        sign = "-" if self.minor_units < 0 else ""
        text = str(abs(self.minor_units)).rjust(digits + 1, "0")
        return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"

    def __add__(self, other: Any) -> Money:
        """Return the sum; raises `ValueError` when the currencies differ."""
        if not isinstance(other, Money):
            return NotImplemented
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(minor_units=self.minor_units + other.minor_units, currency=self.currency)

    def __sub__(self, other: Any) -> Money:
        """Return the difference; raises `ValueError` when the currencies differ."""
        if not isinstance(other, Money):
            return NotImplemented
        return self + Money(minor_units=-other.minor_units, currency=other.currency)
