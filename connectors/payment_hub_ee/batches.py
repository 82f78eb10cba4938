"""Payment files: orders cut into files the server can take whole, and their exact bytes as CSV or JSON.

What the server does to files is in payment-hub-ee/FACTS.md, sections 2 and 4: it takes the mode of a file's first row for all,
throws equal rows out, re-reads the rows of a split file by position (what stands last is lost) and adds whole numbers only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import orjson

from connectors.errors import Refused
from connectors.payment_hub_ee.model import Order

COLUMNS: Final = (
    "id", "request_id", "payment_mode", "payer_identifier_type", "payer_identifier", "payee_identifier_type",
    "payee_identifier", "amount", "currency", "note",
)  # fmt: skip
"""The order in which rows survive being read by position."""
WIDE: Final = (*COLUMNS, "program_shortcode", "cycle", "payee_dfsp_id", "batch_id", "account_number")
"""The order after the server has rewritten a file; a file sent so loses only empty columns."""
JSON_KEYS: Final = {"MSISDN": "msisdn", "ACCOUNT_ID": "accountnumber", "ACCOUNTNUMBER": "accountnumber"}
_UNSAFE: Final = re.compile(r'[,"\x00-\x1f\x7f\x85\u2028\u2029]')


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment takes in one file; `split` is the number of rows above which it splits one (0: never)."""

    bytes: int
    rows: int
    split: int
    note: int = 50


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of a target's files are written."""

    form: str
    payer_type: str = ""
    payer_id: str = ""
    wide: bool = True
    amount_as_number: bool = False

    @property
    def head(self) -> bytes:
        """What a file begins with."""
        return b"[" if self.form == "json" else ",".join(WIDE if self.wide else COLUMNS).encode()


def plan(orders: Sequence[Order], limits: Limits, shape: Shape) -> list[list[Order]]:
    """Cut orders into files: one mode each, no two rows the server takes for one payment, within its limits.

    Orders with decimals get files too small to be split. Order within a file is that of `orders`.
    """
    twins: dict[tuple[str, str, str, str], int] = defaultdict(int)
    lanes: dict[tuple[str, bool, int], list[list[Order]]] = {}
    filled: dict[tuple[str, bool, int], int] = {}
    for order in orders:
        layer = twins[order.twin_key]
        twins[order.twin_key] += 1
        small = limits.split > 0 and not is_whole(order.amount)
        lane = (order.mode.lower(), small, layer)
        most = min(limits.rows, limits.split) if small else limits.rows
        # The row number may have up to as many digits as the limit; one byte more is the line's end or the comma.
        size = len(row(most, order, shape)) + 1
        files = lanes.setdefault(lane, [])
        if not files or len(files[-1]) >= most or filled[lane] + size > limits.bytes:
            files.append([])
            filled[lane] = len(shape.head) + 1
        files[-1].append(order)
        filled[lane] += size
    return [file for files in lanes.values() for file in files]


def row(number: int, order: Order, shape: Shape) -> bytes:
    """Return one order as it stands in a file, without the line's end."""
    if shape.form == "json":
        return _json_row(order, shape)
    fields = [
        str(number), order.request_id, order.mode, shape.payer_type, shape.payer_id, order.payee_type, order.payee_id,
        order.amount, order.currency, order.note,
    ]  # fmt: skip
    if shape.wide:
        fields += [""] * (len(WIDE) - len(COLUMNS))
    return ",".join(fields).encode()


def joined(rows: Iterable[bytes], shape: Shape) -> bytes:
    """Return a whole file; it has LF between lines, no blank line and none at the end, so what is signed is what is read."""
    if shape.form == "json":
        return b"[" + b",".join(rows) + b"]"
    return b"\n".join((shape.head, *rows))


def multipart(content: bytes, file_name: str, boundary: str) -> tuple[str, bytes]:
    """Return content type and body of an upload: one part named `data`."""
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="{file_name}"\r\n'
        "Content-Type: text/csv\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


def is_whole(amount: str) -> bool:
    """Say whether an amount is a whole number, so that sums of sub-batches can be made."""
    return amount.isascii() and amount.isdigit()


def plain_amount(decimal: str) -> str:
    """Return an amount without zeros that say nothing: `850` for `850.00`, `850.5` for `850.50`."""
    text = decimal.rstrip("0").rstrip(".") if "." in decimal else decimal
    return text or "0"


def safe_field(value: str) -> str:
    """Return a value that must arrive as it is; raises `Refused` (`payee-unwritable`) when a file cannot carry it."""
    if not value or value != value.strip() or _UNSAFE.search(value):
        raise Refused(
            "A payee's account holds a comma, a quote or a control character, which no payment file can carry.",
            code="payee-unwritable",
            remedy="Correct the account where it comes from; nothing of this payment was sent.",
        )
    return value


def safe_note(note: str | None, length: int) -> str:
    """Return a note as a file can carry it: no commas, quotes or line ends, blanks run together, cut to `length`."""
    return " ".join(_UNSAFE.sub(" ", note or "").split())[:length].rstrip()


def stored(number: int, part: bytes) -> bytes:
    """Return what the ledger keeps of a file for one payment: its place and its bytes."""
    return b"%d %s" % (number, part)


def restored(parts: Iterable[bytes]) -> list[bytes]:
    """Return the rows of a file in their order, from what the ledger kept."""
    split = [part.split(b" ", 1) for part in parts]
    return [text for _, text in sorted((int(number), text) for number, text in split)]


def _json_row(order: Order, shape: Shape) -> bytes:
    def party(kind: str, value: str) -> list[dict[str, str]]:
        return [{"key": JSON_KEYS.get(kind.upper(), kind.lower()), "value": value}] if value else []

    amount: object = order.amount
    if shape.amount_as_number:
        number = Decimal(order.amount)
        amount = int(number) if is_whole(order.amount) else float(number)
    return orjson.dumps(
        {
            "requestId": order.request_id,
            "creditParty": party(order.payee_type, order.payee_id),
            "debitParty": party(shape.payer_type, shape.payer_id),
            "paymentMode": order.mode,
            "amount": amount,
            "currency": order.currency,
            "descriptionText": order.note,
        }
    )
