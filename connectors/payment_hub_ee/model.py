"""What a Payment Hub EE deployment is told and says, as plain records: orders, answers to a batch, transfers it knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from canonical_model.money import MINOR_UNIT_DIGITS

COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
_CODE_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Order:
    """One payment as a file has it; `amount` is a decimal text."""

    request_id: str
    mode: str
    payee_type: str
    payee_id: str
    amount: str
    currency: str
    note: str = ""

    @property
    def twin_key(self) -> tuple[str, str, str, str]:
        """What the server takes two rows of one file for the same payment by."""
        return self.payee_id, self.payee_type, self.amount, self.currency


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch was taken; its id at the server, and the seconds after which it suggests to ask."""

    batch_id: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """One transfer as the operations app knows it."""

    request_id: str
    transaction_id: str | None
    status: str | None
    amount: Decimal | None
    currency: str | None
    code: str | None
    completed_at: datetime | None

    def minor_units(self) -> int | None:
        """Return the amount in minor units; None when it is none of its currency."""
        digits = MINOR_UNIT_DIGITS.get(self.currency or "")
        if self.amount is None or digits is None:
            return None
        scaled = self.amount.scaleb(digits)
        return int(scaled) if scaled == scaled.to_integral_value() else None


def known_transfer(entry: Any) -> Known | None:
    """Read one entry of a page of transfers; None for what has no id of ours."""
    if not isinstance(entry, dict) or not isinstance(entry.get("clientCorrelationId"), str):
        return None
    status = entry.get("status")
    return Known(
        entry["clientCorrelationId"],
        _text(entry.get("transactionId")),
        status.upper() if isinstance(status, str) else None,
        _decimal(entry.get("amount")),
        _text(entry.get("currency")),
        error_code(entry.get("errorInformation")),
        _moment(entry.get("completedAt")),
    )


def known_instruction(entry: Any, currency: str) -> Known | None:
    """Read one entry of a batch's `instructionList`, which also has the rows that never became a transfer."""
    if not isinstance(entry, dict) or not isinstance(entry.get("instructionId"), str):
        return None
    status = entry.get("status")
    return Known(
        entry["instructionId"],
        None,
        status.upper() if isinstance(status, str) else None,
        _decimal(entry.get("amount")),
        currency,
        reason_code(entry.get("reason")),
        _moment(entry.get("completedAt")),
    )


def error_code(text: Any) -> str | None:
    """Return the code in a transfer's `errorInformation`, a JSON text of an error; its words may name people and are left."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return reason_code(text)
    return body_code(found)


def body_code(body: Any) -> str | None:
    """Return the `errorCode` of an error body, the first inner one where there are some; None without one."""
    if not isinstance(body, dict):
        return None
    inner = body.get("errors")
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):
        body = inner[0]
    code = body.get("errorCode")
    return code if isinstance(code, str) and code.isascii() and _is_code(code) else None


_REASONS: Final = {
    "Payee Identifier not found": "PayeeNotFound",
    "Payment mode not configured": "PaymentModeNotConfigured",
    "Duplicate transaction.": "DuplicateTransaction",
}
"""The server's own sentences for rows that never became a transfer, and the codes the hub keeps of them."""


def reason_code(text: Any) -> str | None:
    """Return a code for one of the server's known sentences, `failed` for another; None for nothing."""
    if not isinstance(text, str) or not text.strip():
        return None
    return _REASONS.get(text.strip(), "failed")


def _is_code(code: str) -> bool:
    letters = sum(character.isalpha() for character in code)
    return len(code) <= _CODE_LENGTH and letters >= 4 and all(c.isalnum() or c in "._-" for c in code)


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 4e12:
        return None
    return datetime.fromtimestamp(value / 1000, UTC)
