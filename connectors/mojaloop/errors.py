"""Error codes of FSPIOP and what the hub does about each: final for the payment, to be asked about, or the whole batch stops.

Codes ending in 40 to 99 belong to a scheme: an unknown one means its hundred.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What an error of the rail means for a payment that met it."""

    FINAL = "final"
    """This payment failed for good; no money moved."""
    ASK = "ask"
    """The outcome is open: ask, then send the identical bytes again."""
    SYSTEMIC = "systemic"
    """Nothing is wrong with this payment: stop the batch until a person has acted."""
    LATER = "later"
    """The other side does not take anything now, and nothing was created there."""


CODES: Final[dict[str, tuple[str, Action]]] = {
    "1000": ("communication error", Action.ASK),
    "1001": ("destination unreachable", Action.ASK),
    "2000": ("server error", Action.ASK),
    "2001": ("internal server error", Action.ASK),
    "2002": ("not implemented", Action.SYSTEMIC),
    "2003": ("service unavailable", Action.ASK),
    "2004": ("server timed out", Action.ASK),
    "2005": ("server busy", Action.ASK),
    "3000": ("client error", Action.FINAL),
    "3001": ("unacceptable version", Action.SYSTEMIC),
    "3002": ("unknown address", Action.SYSTEMIC),
    "3003": ("party cannot be added", Action.FINAL),
    "3100": ("validation error", Action.FINAL),
    "3101": ("malformed syntax", Action.FINAL),
    "3102": ("missing element", Action.FINAL),
    "3103": ("too many elements", Action.FINAL),
    "3104": ("payload too large", Action.FINAL),
    "3105": ("invalid signature", Action.SYSTEMIC),
    "3106": ("request differs from an earlier one of the same id", Action.FINAL),
    "3107": ("missing extension", Action.FINAL),
    "3200": ("id not found", Action.FINAL),
    "3201": ("destination institution unknown", Action.FINAL),
    "3202": ("payer institution unknown", Action.SYSTEMIC),
    "3203": ("payee institution unknown", Action.FINAL),
    "3204": ("party not found", Action.FINAL),
    "3205": ("quote not found", Action.FINAL),
    "3206": ("transaction request not found", Action.FINAL),
    "3207": ("transaction not found", Action.FINAL),
    "3208": ("transfer not found", Action.FINAL),
    "3209": ("bulk quote not found", Action.FINAL),
    "3210": ("bulk transfer not found", Action.FINAL),
    "3300": ("expired", Action.FINAL),
    "3301": ("transaction request expired", Action.FINAL),
    "3302": ("quote expired", Action.FINAL),
    "3303": ("transfer expired", Action.FINAL),
    "4000": ("payer error", Action.FINAL),
    "4001": ("payer institution without liquidity", Action.SYSTEMIC),
    "4100": ("payer rejection", Action.FINAL),
    "4101": ("payer rejected the request", Action.FINAL),
    "4102": ("payer institution does not support the transaction type", Action.SYSTEMIC),
    "4103": ("payer currency not supported", Action.SYSTEMIC),
    "4200": ("payer limit", Action.FINAL),
    "4300": ("payer has no permission", Action.SYSTEMIC),
    "4400": ("payer blocked", Action.SYSTEMIC),
    "5000": ("payee error", Action.FINAL),
    "5001": ("payee institution without liquidity", Action.FINAL),
    "5100": ("payee rejection", Action.FINAL),
    "5101": ("payee rejected the quote", Action.FINAL),
    "5102": ("payee institution does not support the transaction type", Action.FINAL),
    "5103": ("payee institution rejected the quote", Action.FINAL),
    "5104": ("payee rejected the transaction", Action.FINAL),
    "5105": ("payee institution rejected the transaction", Action.FINAL),
    "5106": ("payee currency not supported", Action.FINAL),
    "5200": ("payee limit", Action.FINAL),
    "5300": ("payee has no permission", Action.FINAL),
    "5400": ("payee blocked", Action.FINAL),
    "6000": ("settlement error", Action.ASK),
}
"""Every code of the standard (and 6000 of the reference hub), in our words, with the hub's action."""

_CLASSES: Final = {"1": Action.ASK, "2": Action.ASK, "3": Action.FINAL, "5": Action.FINAL}


def action_of(code: str) -> Action:
    """Return what the hub does about a code; one nobody knows is judged by its hundred, then its thousand, else asked about."""
    hundred = f"{code[:2]}00"
    known = CODES.get(code) or CODES.get(hundred)
    if known is not None:
        return known[1]
    return _CLASSES.get(code[:1], Action.ASK)


def meaning_of(code: str) -> str:
    """Return a code in words of our own; a scheme's own code is told as such."""
    if code in CODES:
        return CODES[code][0]
    general = CODES.get(f"{code[:2]}00")
    return f"a code of the scheme for: {general[0]}" if general else "a code the standard does not have"


def is_code(value: object) -> bool:
    """Say whether a received value has the form of an error code; anything else is never repeated to anybody."""
    return (
        isinstance(value, str) and len(value) == 4 and value.isascii() and value.isdigit() and value[0] != "0"
    )


def action_of_status(status: int) -> Action:
    """Return what an HTTP status without an error code means for a request that creates something.

    4xx: not created. 501: not supported. 503: try later. Other 5xx may come from a proxy: open. 3xx: for a person.
    """
    if status in {401, 403, 404, 405, 406, 501} or 300 <= status < 400:
        return Action.SYSTEMIC
    if status in {408, 425, 429, 503}:
        return Action.LATER
    return Action.FINAL if 400 <= status < 500 else Action.ASK
