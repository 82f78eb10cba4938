"""What a Payment Hub EE deployment does with files and orders, in memory: splitting, throwing out, paying, and its faults."""

from __future__ import annotations

import csv
import io
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from connectors.payment_hub_ee.batches import COLUMNS, WIDE

MODES: Final = ("closedloop", "mojaloop", "gsma", "slcb")


class Fault(StrEnum):
    """A way to misbehave, towards one payee or all."""

    FAIL = "fail"
    """The payment fails: `PayeeNotFound`."""
    STALLED = "stalled"
    """The payment stays IN_PROGRESS for good, so no callback says 100."""
    MISSING = "missing"
    """The row is lost: no transfer of it is ever made."""
    OTHER_AMOUNT = "other-amount"
    """The transfer says another amount than was ordered."""
    PAID_TWICE = "paid-twice"
    """Two transfers complete for one request id."""
    TURNCOAT = "turncoat"
    """The payment fails, and completes after it was asked about."""
    LATE = "late"
    """The payment is IN_PROGRESS until it was asked about twice."""
    ANSWER_LOST = "answer-lost"
    """The file or order is taken, and the connection ends without an answer."""
    REQUEST_LOST = "request-lost"
    """The connection ends before the file or order is taken."""
    GARBAGE = "garbage"
    """The file is taken, and the 202 carries no batch id."""
    ERROR_500 = "error-500"
    """The file is taken, and the answer is 500."""
    BUSY = "busy"
    """503, nothing taken, once for each file name or correlation id of the next three."""
    CALLBACK_LOST = "callback-lost"
    CALLBACK_EARLY = "callback-early"
    """The callback comes before the 202."""
    CALLBACK_TWICE = "callback-twice"
    IMPORTER_LAG = "importer-lag"
    """The operations app does not know a batch or its transfers for the first three questions."""
    SILENT = "silent"
    """The operations app never answers."""
    UNSIGNED = "unsigned"
    """Answers carry no signature."""


@dataclass(slots=True)
class Batch:
    """One file as it was taken."""

    id: str
    request_id: str
    file: str
    rows: list[dict[str, str]]
    started_at: int
    callback: str | None = None
    institution: str | None = None
    transfers: list[dict[str, Any]] = field(default_factory=list)
    failed_rows: list[tuple[dict[str, str], str]] = field(default_factory=list)
    """Rows that never became a transfer, and why."""
    sub_batches: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    lag: int = 0


class Books:
    """The books of one deployment."""

    def __init__(self, tenant: str, *, sub_batch_size: int = 5) -> None:
        self.tenant = tenant
        self.sub_batch_size = sub_batch_size
        self.every: set[Fault] = set()
        self.faults: dict[str, set[Fault]] = defaultdict(set)
        """Faults by payee identifier."""
        self.batches: dict[str, Batch] = {}
        self.by_request: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.moved: list[tuple[str, str, str, str]] = []
        """Money that went out: request id, payee, amount, currency."""
        self.mapper: dict[str, dict[str, str]] = {}
        self.asked: Counter[str] = Counter()
        self._number = 22_481_500

    def has(self, fault: Fault, payee: str = "") -> bool:
        """Say whether a fault is on, for this payee or for all."""
        return fault in self.every or fault in self.faults.get(payee, ())

    def take_file(
        self, text: str, file: str, request_id: str, *, callback: str | None, institution: str | None
    ) -> Batch:
        """Take a file and do with it all that a deployment does; raises `ValueError` for an unknown column."""
        reader = csv.reader(io.StringIO(text))
        head = next(reader, [])
        if not head or not set(head) <= set(WIDE):
            raise ValueError("columns")
        rows = [dict(zip(head, line, strict=False)) for line in reader if line]
        batch = Batch(
            str(uuid.uuid4()), request_id, f"{uuid.uuid4()}_{file}", rows, _now(), callback, institution,
            lag=3 if Fault.IMPORTER_LAG in self.every else 0,
        )  # fmt: skip
        self.batches[batch.id] = batch
        left = self._found(batch, self._unique(batch, rows)) if institution else self._unique(batch, rows)
        for sub_id, part in self._split(batch, left, len(head)):
            self._pay_part(batch, sub_id, part)
        return batch

    def take_single(self, body: dict[str, Any], correlation_id: str) -> str:
        """Take one order of the channel and return its transaction id."""
        payee, amount, currency, payee_type = _single_fields(body)
        row = {
            "request_id": correlation_id, "payee_identifier": payee, "payee_identifier_type": payee_type, "amount": amount,
            "currency": currency, "note": str(body.get("note") or ""),
        }  # fmt: skip
        made = self._pay(row, "")
        return str(made["transactionId"] if made else self._next())

    def transfers(self, request_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Return the transfers with these request ids as they are now; asking may move what is late."""
        found = []
        for request_id in request_ids:
            for entry in self.by_request.get(request_id, ()):
                if self.visible(entry["batchId"]):
                    self._grow(entry)
                    found.append(public(entry))
        return found

    def visible(self, batch_id: str | None) -> bool:
        """Say whether the operations app has imported a batch; each question brings it closer."""
        batch = self.batches.get(batch_id or "")
        return batch is None or batch.lag <= 0

    def question(self, batch: Batch) -> bool:
        """Count a question about a batch and say whether the operations app knows it."""
        known = batch.lag <= 0
        batch.lag -= 1
        return known

    def figures(self, batch: Batch) -> dict[str, Any]:
        """Return a batch's own figures: whole numbers, and a status that says little."""
        done = [t for t in batch.transfers if t["status"] == "COMPLETED"]
        failed = [t for t in batch.transfers if t["status"] == "FAILED"]
        total = len(batch.rows)
        ongoing = total - len(done) - len(failed) - len(batch.failed_rows)

        def amount(entries: list[dict[str, Any]]) -> int:
            return sum(int(float(entry["amount"])) for entry in entries)

        rate = int(len(done) * 10_000 / total) / 100 if total else 0.0
        status = "COMPLETED" if len(done) == total else "UNKNOWN"
        return {
            "total": total, "ongoing": ongoing, "failed": len(failed) + len(batch.failed_rows), "successful": len(done),
            "totalAmount": int(sum(float(row["amount"]) for row in batch.rows)), "successfulAmount": amount(done),
            "failedAmount": amount(failed), "successPercentage": f"{rate:.2f}", "status": status, "rate": rate,
        }  # fmt: skip

    # --- what happens to the rows of a file --------------------------------------------------------------------

    @staticmethod
    def _unique(batch: Batch, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        seen, left = set(), []
        for row in rows:
            key = tuple(
                row.get(n, "") for n in ("payee_identifier", "payee_identifier_type", "amount", "currency")
            )
            if key in seen:
                batch.failed_rows.append((row, "Duplicate transaction."))
            else:
                seen.add(key)
                left.append(row)
        return left

    def _found(self, batch: Batch, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        left = []
        for row in rows:
            known = self.mapper.get(row.get("payee_identifier", ""))
            if known is None:
                batch.failed_rows.append((row, "Payee Identifier not found"))
            else:
                fsp = known.get("bankingInstitutionCode", "")
                left.append({**row, "payee_dfsp_id": fsp, "functional_id": row["payee_identifier"]})
        return left

    def _split(
        self, batch: Batch, rows: list[dict[str, str]], columns: int
    ) -> Iterable[tuple[str, list[dict[str, str]]]]:
        parts: dict[str, list[dict[str, str]]] = defaultdict(list)
        size = self.sub_batch_size
        if batch.institution:
            for row in rows:
                parts[row["payee_dfsp_id"]].append(row)
        elif size and len(rows) > size:
            for start in range(0, len(rows), size):
                parts[str(start)] = rows[start : start + size]
        else:
            yield "", rows
            return
        for part in parts.values():
            sub_id = str(uuid.uuid4())
            batch.sub_batches[sub_id] = part
            if any("." in row["amount"] for row in part):
                continue  # the totals of a sub-batch are made of whole numbers: nothing of it is started
            lost = columns == len(COLUMNS)  # read again by position, a narrow row loses what stands last
            yield sub_id, [{**row, "note": ""} if lost else row for row in part]

    def _pay_part(self, batch: Batch, sub_id: str, rows: list[dict[str, str]]) -> None:
        if not rows:
            return
        mode = rows[0].get("payment_mode", "").lower()
        for row in rows:
            if mode not in MODES:
                batch.failed_rows.append((row, "Payment mode not configured"))
                continue
            if row.get("payment_mode", "").lower() != mode:
                # The first row's mode decides for all: the payee is not found there.
                batch.failed_rows.append((row, "Payee not found"))
                continue
            entry = self._pay(row, batch.id, sub_id)
            if entry is not None:
                batch.transfers.append(entry)

    def _pay(self, row: dict[str, str], batch_id: str, sub_id: str = "") -> dict[str, Any] | None:
        payee = row.get("functional_id") or row["payee_identifier"]
        if self.has(Fault.MISSING, payee):
            return None
        entry = self._entry(row, batch_id, sub_id)
        if self.has(Fault.FAIL, payee):
            entry["status"], entry["errorInformation"] = "FAILED", _NOT_FOUND
        elif self.has(Fault.STALLED, payee):
            entry["status"] = "IN_PROGRESS"
        elif self.has(Fault.LATE, payee):
            entry["status"], entry["_grows"] = "IN_PROGRESS", 2
        elif self.has(Fault.TURNCOAT, payee):
            entry["status"], entry["errorInformation"], entry["_grows"] = "FAILED", _NOT_FOUND, 1
        else:
            self._complete(entry, row["payee_identifier"])
        if self.has(Fault.OTHER_AMOUNT, payee):
            entry["amount"] = float(entry["amount"]) + 1
        self.by_request[row["request_id"]].append(entry)
        if self.has(Fault.PAID_TWICE, payee):
            twin = self._entry(row, batch_id, sub_id)
            self._complete(twin, row["payee_identifier"])
            self.by_request[row["request_id"]].append(twin)
        return entry

    def _grow(self, entry: dict[str, Any]) -> None:
        if entry.get("_grows") is None:
            return
        if entry["_grows"] <= 0:
            del entry["_grows"]
            entry["errorInformation"] = None
            self._complete(entry, entry["payeePartyId"])
        else:
            entry["_grows"] -= 1

    def _complete(self, entry: dict[str, Any], payee: str) -> None:
        entry["status"], entry["completedAt"] = "COMPLETED", _now()
        self.moved.append((entry["clientCorrelationId"], payee, str(entry["_text"]), entry["currency"]))

    def _entry(self, row: dict[str, str], batch_id: str, sub_id: str) -> dict[str, Any]:
        number = self._next()
        amount = float(row["amount"])
        return {
            "workflowInstanceKey": 2_251_799_813_685_000 + number, "transactionId": str(number), "startedAt": _now(),
            "completedAt": None, "status": "IN_PROGRESS", "statusDetail": None,
            "payeeDfspId": row.get("payee_dfsp_id") or None, "payeePartyId": row["payee_identifier"],
            "payeePartyIdType": row.get("payee_identifier_type", ""), "payerDfspId": self.tenant,
            "payerPartyId": row.get("payer_identifier", ""), "payerPartyIdType": row.get("payer_identifier_type", ""),
            "amount": int(amount) if amount.is_integer() else amount, "currency": row["currency"], "direction": "OUTGOING",
            "errorInformation": None, "batchId": batch_id or None, "clientCorrelationId": row["request_id"],
            "_text": row["amount"], "_note": row.get("note", ""), "_sub": sub_id,
        }  # fmt: skip

    def _next(self) -> int:
        self._number += 1
        return self._number


_NOT_FOUND: Final = (
    '{"errorCategory": "Interop", "errorCode": "PayeeNotFound", "errorDescription": "Payee not found"}'
)


def public(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a transfer as the operations app shows it."""
    return {name: value for name, value in entry.items() if not name.startswith("_")}


def _single_fields(body: dict[str, Any]) -> tuple[str, str, str, str]:
    if "payee" in body:
        party = body["payee"]["partyIdInfo"]
        money = body["amount"]
        return party["partyIdentifier"], str(money["amount"]), money["currency"], party["partyIdType"]
    party = body["creditParty"][0]
    return party["value"], str(body["amount"]), body["currency"], party["key"]


def _now() -> int:
    return int(time.time() * 1000)
