"""What a bank's files say: pain.002 (statuses), camt.054 (entries booked), and a cash-out list that came back as CSV.

Read as a stream by expat, without entities or document types, within bounds. Element names are those of
CustomerPaymentStatusReportV10 and BankToCustomerDebitCreditNotificationV08; the version in the namespace may be another one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from xml.parsers import expat

from canonical_model.money import Money
from connectors.bank_file.settings import BankFileSettings
from connectors.errors import Refused
from connectors.payments import amounts

PAID: Final = "paid"
FAILED: Final = "failed"
OPEN: Final = "open"
RETURNED: Final = "returned"
UNCLEAR: Final = "unclear"
_MOST_DEPTH: Final = 40
_MOST_TEXT: Final = 4096
_MOST_LEAVES: Final = 2000
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,34}")
_ROOT: Final = re.compile(r"urn:iso:std:iso:20022:tech:xsd:(pain\.002|camt\.054)\.\d{3}\.\d{2}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a file says of one payment, or of all payments of one of our files or a group of it (`whole`)."""

    reference: str
    what: str
    code: str | None = None
    amount: Money | None = None
    fee: Money | None = None
    rail_reference: str | None = None
    at: datetime | None = None
    whole: bool = False


def read(data: bytes, settings: BankFileSettings) -> list[Said]:
    """Return what a file says; raises `Refused` (`bank-file-invalid`) for one that cannot be read whole: then nothing counts."""
    if len(data) > settings.most_bytes:
        raise invalid(f"it has more than {settings.most_bytes} bytes")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _Reader(settings).read(data)
    return list(_csv(data))


def invalid(why: str) -> Refused:
    """Return the refusal of a file; `why` holds nothing the file says."""
    return Refused(
        f"A file of the bank could not be read: {why}. Nothing of it was applied.",
        code="bank-file-invalid",
        remedy="Ask the bank for the whole file again; docs/connect-bank-files.md says what is read.",
    )


class _Reader:
    """Collects the leaves of one transaction or entry at a time."""

    def __init__(self, settings: BankFileSettings) -> None:
        self._settings = settings
        self._path: list[str] = []
        self._text: list[str] = []
        self._size = 0
        self._leaves: list[tuple[tuple[str, ...], str, Mapping[str, str]]] = []
        self._attributes: list[Mapping[str, str]] = []
        self._group: dict[str, str] = {}
        self._instruction: dict[str, str] = {}
        self._detailed = False
        self._entries = 0
        self._found: list[Said] = []
        self._kind: str | None = None

    def read(self, data: bytes) -> list[Said]:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(data, True)
        except expat.ExpatError:
            raise invalid("it is no well-formed XML") from None
        if self._kind is None:
            raise invalid("it is neither pain.002 nor camt.054")
        return self._found

    def _doctype(self, *_: Any) -> None:
        raise invalid("it declares a document type, which no message of ISO 20022 does")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        space, _, local = name.rpartition("}")
        if not self._path:
            found = _ROOT.fullmatch(space)
            if local != "Document" or found is None:
                raise invalid("it is neither pain.002 nor camt.054")
            self._kind = found[1]
        self._path.append(local)
        if len(self._path) > _MOST_DEPTH:
            raise invalid("its elements are nested too deep")
        self._attributes.append(attributes)
        self._text, self._size = [], 0
        if local in {"OrgnlPmtInfAndSts", "TxInfAndSts", "Ntry", "TxDtls"}:
            if local != "TxDtls":
                self._leaves = []
            if local == "OrgnlPmtInfAndSts":
                self._instruction = {}
                self._detailed = False
            if local == "Ntry":
                self._entries = 0

    def _characters(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MOST_TEXT:
            raise invalid("one of its fields is too long")
        self._text.append(text)

    def _end(self, _: str) -> None:
        path = tuple(self._path[2:])
        text = "".join(self._text).strip()
        attributes = self._attributes.pop()
        self._text, self._size = [], 0
        if text:
            if len(self._leaves) >= _MOST_LEAVES:
                raise invalid("one of its entries has too many fields")
            self._leaves.append((path, text, attributes))
        local = self._path.pop()
        if self._kind == "pain.002":
            self._end_of_status(local, path, text)
        elif local == "TxDtls":
            self._end_of_details()
        elif local == "Ntry":
            if not self._entries:
                self._entry(_Fields(self._leaves, "Ntry"), _Fields(self._leaves, "Ntry"))
            self._leaves = []

    # pain.002

    def _end_of_status(self, local: str, path: tuple[str, ...], text: str) -> None:
        if path[:1] == ("OrgnlGrpInfAndSts",) and text:
            self._group.setdefault("/".join(path[1:]), text)
        elif path[:1] == ("OrgnlPmtInfAndSts",) and "TxInfAndSts" not in path and text:
            self._instruction.setdefault("/".join(path[1:]), text)
        if local == "TxInfAndSts":
            self._detailed = True
            fields = _Fields(self._leaves, "TxInfAndSts")
            status = fields.get("TxSts") or self._instruction.get("PmtInfSts") or self._group.get("GrpSts")
            reference = fields.get("OrgnlEndToEndId")
            if reference and status:
                self._said(reference, status, fields.code("StsRsnInf/Rsn"), fields)
            self._leaves = []
        elif local == "OrgnlPmtInfAndSts":
            status = self._instruction.get("PmtInfSts")
            if not self._detailed and status and self._group.get("OrgnlMsgId"):
                self._whole(self._instruction, status)
        elif local == "OrgnlGrpInfAndSts":
            self._leaves = []
            if self._group.get("GrpSts") in self._settings.failed_statuses and self._group.get("OrgnlMsgId"):
                self._whole(self._group, self._group["GrpSts"])

    def _whole(self, fields: Mapping[str, str], status: str) -> None:
        """Take a refusal of one of our files, or of one of its groups; anything better needs a word about each payment."""
        if status in self._settings.failed_statuses:
            code = fields.get("StsRsnInf/Rsn/Cd") or fields.get("StsRsnInf/Rsn/Prtry")
            instruction = fields.get("OrgnlPmtInfId", "")
            reference = instruction or self._group["OrgnlMsgId"]
            self._found.append(Said(reference, FAILED, _safe(code or status), whole=True))

    def _said(self, reference: str, status: str, code: str | None, fields: _Fields) -> None:
        settings = self._settings
        if status in settings.failed_statuses:
            self._found.append(Said(reference, FAILED, _safe(code or status)))
        elif status in settings.paid_statuses:
            amount = fields.money("OrgnlTxRef/Amt/InstdAmt") or fields.money("OrgnlTxRef/IntrBkSttlmAmt")
            self._found.append(
                Said(
                    reference, PAID, None, amount, fields.money("ChrgsInf/Amt"), _reference(fields.get("AcctSvcrRef")),
                    fields.moment("AccptncDtTm"),
                )
            )  # fmt: skip
        elif status in settings.open_statuses:
            self._found.append(Said(reference, OPEN))
        else:
            self._found.append(Said(reference, UNCLEAR, _safe(f"status-{status}")))

    # camt.054

    def _end_of_details(self) -> None:
        details = _Fields(self._leaves, "TxDtls")
        self._entry(_Fields([one for one in self._leaves if "TxDtls" not in one[0]], "Ntry"), details)
        self._entries += 1
        self._leaves = [one for one in self._leaves if "TxDtls" not in one[0]]

    def _entry(self, of_entry: _Fields, details: _Fields) -> None:
        reference = details.get("Refs/EndToEndId")
        booked = (of_entry.get("Sts/Cd") or of_entry.get("Sts")) == "BOOK"
        if not reference or not booked:
            return
        side = details.get("CdtDbtInd") or of_entry.get("CdtDbtInd")
        back = side == "CRDT" or of_entry.get("RvslInd") in {"true", "1"} or bool(details.code("RtrInf/Rsn"))
        amount = details.money("Amt")
        if amount is None and not self._entries:
            amount = of_entry.money("Amt")
        at = of_entry.moment("BookgDt/DtTm") or of_entry.moment("BookgDt/Dt")
        bank = _reference(details.get("Refs/AcctSvcrRef") or of_entry.get("AcctSvcrRef"))
        if back:
            code = _safe(details.code("RtrInf/Rsn") or "returned")
            self._found.append(Said(reference, RETURNED, code, amount, None, bank, at))
        elif side == "DBIT":
            self._found.append(Said(reference, PAID, None, amount, _charges(details), bank, at))
        else:
            self._found.append(Said(reference, UNCLEAR, "entry-without-side"))


class _Fields:
    """The leaves behind one element, by their path from there; the first of each."""

    def __init__(self, leaves: list[tuple[tuple[str, ...], str, Mapping[str, str]]], element: str) -> None:
        self._by_path: dict[str, tuple[str, Mapping[str, str]]] = {}
        for path, text, attributes in leaves:
            if element in path:
                key = "/".join(path[path.index(element) + 1 :])
                self._by_path.setdefault(key, (text, attributes))

    def get(self, path: str) -> str | None:
        found = self._by_path.get(path)
        return None if found is None else found[0]

    def code(self, path: str) -> str | None:
        return self.get(f"{path}/Cd") or self.get(f"{path}/Prtry")

    def money(self, path: str) -> Money | None:
        found = self._by_path.get(path)
        if found is None:
            return None
        try:
            return amounts.read(found[0], found[1].get("Ccy", ""))
        except Refused:
            raise invalid("an amount in it is no amount of its currency") from None

    def moment(self, path: str) -> datetime | None:
        return _moment(self.get(path))


def _charges(details: _Fields) -> Money | None:
    return details.money("Chrgs/TtlChrgsAndTaxAmt") or details.money("Chrgs/Rcrd/Amt")


def _csv(data: bytes) -> Iterator[Said]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise invalid("it is neither XML nor text in UTF-8") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    kinds: Mapping[str, str] = {
        "paid": PAID, "failed": FAILED, "cancelled": FAILED, "pending": OPEN, "": OPEN, "returned": RETURNED,
    }  # fmt: skip
    try:
        if not {"reference", "status"} <= set(rows.fieldnames or ()):
            raise invalid("its header does not name reference and status")
        for number, row in enumerate(rows, 2):
            reference = (row.get("reference") or "").strip()
            if not reference or None in row:
                raise invalid(f"line {number} has no reference, or more cells than the header")
            status = (row.get("status") or "").strip().lower()
            what = kinds.get(status, UNCLEAR)
            code = _safe((row.get("code") or "").strip() or ("status-unknown" if what == UNCLEAR else status))
            currency = (row.get("currency") or "").strip()
            amount, fee = (
                _money((row.get(name) or "").strip(), currency, number) for name in ("amount", "fee")
            )
            yield Said(
                reference, what, None if what in {PAID, OPEN} else code, amount, fee,
                _reference((row.get("rail_reference") or "").strip() or None), _moment((row.get("paid_at") or "").strip()),
            )  # fmt: skip
    except csv.Error:
        raise invalid("it is no well-formed CSV") from None


def _money(text: str, currency: str, number: int) -> Money | None:
    if not text:
        return None
    try:
        return amounts.read(text, currency)
    except Refused:
        raise invalid(f"line {number} has no amount of its currency") from None


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    for read_as in (datetime.fromisoformat, _day):
        try:
            found = read_as(text)
        except ValueError:
            continue
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return None


def _day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text[:10]), datetime.min.time())


def _safe(code: str) -> str:
    """Return a code that may stand in clear: a word of the bank that is no code could name somebody."""
    return code if _CODE.fullmatch(code) else "code-unreadable"


def _reference(text: str | None) -> str | None:
    return text if text is not None and _CODE.fullmatch(text) else None
