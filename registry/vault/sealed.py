"""Every column that holds sealed values, in one table: what `hub keys status` counts and `hub keys rotate --data` seals anew.

A test compares it with a migrated database: a column of bytes stands here, or in `OPEN` with the reason why it is not sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.vault.cipher import FORMAT, aad, sealed_place

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """One column of sealed values: where it lies, which column names its data key, and what each value is bound to."""

    table: str
    column: str
    row: Callable[[Row], bytes]
    """Returns the bytes that stand for the row in what its values are bound to."""
    primary: Mapping[str, str]
    """The columns of the primary key with their types, in its order."""
    key: str = "key_id"
    form: str | None = None
    """The column that tells the format of the value, where there are several."""

    @property
    def name(self) -> str:
        """The column with its table, as the commands show it."""
        return f"{self.table}.{self.column}"

    def place(self, row: Row) -> bytes:
        """Return what the value of a row is bound to now."""
        if self.form is not None:
            return sealed_place(row[self.form], row["registrant_id"])
        return aad(self.table, self.column, self.row(row))

    def new_place(self, row: Row) -> bytes:
        """Return what the value of a row is bound to once it is sealed anew."""
        return self.place({**row, self.form: FORMAT} if self.form is not None else row)


def _of(name: str) -> Callable[[Row], bytes]:
    def row_of(row: Row) -> bytes:
        raw: bytes = row[name].bytes
        return raw

    return row_of


def _numbered(id_: str, number: str) -> Callable[[Row], bytes]:
    def row_of(row: Row) -> bytes:
        raw: bytes = row[id_].bytes + row[number].to_bytes(4, "big")
        return raw

    return row_of


def _text(name: str) -> Callable[[Row], bytes]:
    def row_of(row: Row) -> bytes:
        return str(row[name]).encode()

    return row_of


def _request(row: Row) -> bytes:
    raw: bytes = row["partner"].encode() + b"\x00" + row["key_hash"]
    return raw


_ID: Final = {"id": "uuid"}
_REGISTRANT: Final = {"registrant_id": "uuid"}
SEALED: Final = (
    SealedColumn("message", "body", _of("id"), _ID),
    SealedColumn("registrant_vault", "sealed", _of("registrant_id"), _REGISTRANT, form="format"),
    SealedColumn("registrant_reference", "sealed", _of("registrant_id"), _REGISTRANT),
    SealedColumn(
        "registrant_change",
        "sealed",
        _numbered("registrant_id", "version"),
        {"registrant_id": "uuid", "version": "int"},
    ),
    SealedColumn("registrant_merge", "sealed", _of("absorbed_id"), {"absorbed_id": "uuid"}),
    SealedColumn("civil_event", "sealed", _of("id"), _ID),
    SealedColumn("change_request", "sealed", _of("id"), _ID),
    SealedColumn("change_request", "undo", _of("id"), _ID, key="undo_key"),
    SealedColumn(
        "import_problem",
        "sealed",
        _numbered("job_id", "row_number"),
        {"job_id": "uuid", "row_number": "int"},
    ),
    SealedColumn("cycle", "voucher_key", _of("id"), _ID, key="voucher_key_id"),
    SealedColumn("idempotency_key", "sealed", _request, {"partner": "text", "key_hash": "bytea"}),
    SealedColumn("transfer", "instruction", _of("id"), _ID),
    SealedColumn("transfer", "request", _of("id"), _ID, key="request_key_id"),
    SealedColumn("account_link", "sealed", _of("id"), _ID),
    SealedColumn("disbursement", "sealed", _of("id"), _ID),
    SealedColumn("disbursement_request", "sealed", _of("id"), _ID),
    SealedColumn("audit_key", "sealed", _text("kid"), {"kid": "text"}),
)

OPEN: Final[Mapping[str, str]] = {
    "account_link.fa_hash": "blind index",
    "account_link.id_hash": "blind index",
    "accepted_origin.body_hash": "keyed hash",
    "accepted_origin.origin_hash": "keyed hash",
    "audit_checkpoint.leaves": "ids and hashes of events, which lie in clear",
    "data_key.wrapped": "wrapped by the key-encryption key, which `rewrap` replaces",
    "delivery.order_key": "keyed hash",
    "disbursement.body_hash": "keyed hash",
    "disbursement.payee_hash": "blind index",
    "disbursement.payer_hash": "blind index",
    "disbursement.reference_hash": "keyed hash",
    "disbursement.transaction_hash": "keyed hash",
    "disbursement_request.body_hash": "keyed hash",
    "disbursement_request.origin_hash": "keyed hash",
    "disbursement_request.transaction_hash": "keyed hash",
    "document.digest": "keyed hash",
    "idempotency_key.body_hash": "keyed hash",
    "idempotency_key.key_hash": "keyed hash",
    "message.correlation_hash": "keyed hash",
    "message.origin_hash": "keyed hash",
    "message.subject_hash": "keyed hash",
    "registrant_identifier.hash": "blind index",
    "transfer_reference.hash": "keyed hash",
}
"""Columns of bytes that hold no sealed value, with what they hold."""
