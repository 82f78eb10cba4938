"""What stands in the files: rows of a cash-out list, and transactions of a pain.001.001.09 with its sums.

Names and order of the elements are those of the message's schema (`urn:iso:std:iso:20022:tech:xsd:pain.001.001.09`):
GroupHeader85, PaymentInstruction30, CreditTransferTransaction34.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID
from xml.sax.saxutils import escape

from canonical_model.money import MINOR_UNIT_DIGITS
from canonical_model.payment import PaymentInstruction
from canonical_model.types import to_data
from connectors.bank_file.settings import BankFileSettings
from connectors.file.cells import cell

NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
MOST_GROUPS: Final = 900
"""Groups of one file: payments of one batch, currency and day."""
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BIC: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[a-zA-Z0-9]{1,30}")
_CODE: Final = re.compile(r"[A-Z]{4}")


class Unwritable(Exception):
    """An order that the form cannot say; `code` is what the payment fails with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Entry:
    """One payment as it stands in a file: its group with the number of it, minor units, and exact bytes."""

    group: str
    units: int
    body: bytes
    number: int = 1

    def stored(self, place: int) -> bytes:
        """Return what the ledger keeps of it."""
        return f"{place} {self.units} {self.number} {self.group}\n".encode() + self.body


def read_stored(request: bytes) -> tuple[int, Entry]:
    """Return the place and the entry that the ledger kept."""
    head, _, body = request.partition(b"\n")
    place, units, number, group = head.decode().split(" ", 3)
    return int(place), Entry(group, int(units), body, int(number))


def group_of(order: PaymentInstruction) -> str:
    """Return what payments of one group have in common: batch, currency, day of execution."""
    day = "" if order.execution_date is None else order.execution_date.isoformat()
    return f"{order.amount.currency} {day} {order.batch_id or ''}"


def entry(order: PaymentInstruction, reference: str, settings: BankFileSettings) -> Entry:
    """Return the entry of an order; raises `Unwritable`: `account-missing`, `account-too-long`, `payee-unnamed`."""
    body = _row(order, reference, settings) if settings.format == "csv" else _transaction(order, reference)
    return Entry(group_of(order), order.amount.minor_units, body)


def whole(entries: Sequence[Entry], file_id: str, settings: BankFileSettings) -> Iterable[bytes]:
    """Yield a file; the same entries and id always give the same bytes."""
    if settings.format == "csv":
        yield _line([column.name for column in settings.columns])
        for one in entries:
            yield one.body
        return
    yield from _document(entries, file_id, settings)


def _row(order: PaymentInstruction, reference: str, settings: BankFileSettings) -> bytes:
    data = {**to_data(order), "reference": reference}
    return _line([cell(data, column.path) for column in settings.columns])


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _transaction(order: PaymentInstruction, reference: str) -> bytes:
    account = order.payee_account
    if account is None:
        raise Unwritable(code="account-missing")
    if len(account.account_number) > 34:
        raise Unwritable(code="account-too-long")
    name = account.holder_name or (order.payee_name.display if order.payee_name else None)
    if not name or not name.strip():
        raise Unwritable(code="payee-unnamed")
    instruction = f"<InstrId>{_text(order.payment_id, 35)}</InstrId>" if len(order.payment_id) <= 35 else ""
    agent = (
        "" if account.provider is None else f"<CdtrAgt>{_agent(account.provider, account.branch)}</CdtrAgt>"
    )
    purpose = ""
    if order.purpose is not None:
        kind = "Cd" if _CODE.fullmatch(order.purpose) else "Prtry"
        purpose = f"<Purp><{kind}>{_text(order.purpose, 35)}</{kind}></Purp>"
    note = _text(order.note or order.payment_id, 140)
    return (
        f"<CdtTrfTxInf><PmtId>{instruction}<EndToEndId>{reference}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="{order.amount.currency}">{order.amount.decimal()}</InstdAmt></Amt>'
        f"{agent}<Cdtr><Nm>{_text(name, 140)}</Nm></Cdtr>"
        f"<CdtrAcct>{_account(account.account_number, account.id_type)}</CdtrAcct>"
        f"{purpose}<RmtInf><Ustrd>{note}</Ustrd></RmtInf></CdtTrfTxInf>\n"
    ).encode()


def _document(entries: Sequence[Entry], file_id: str, settings: BankFileSettings) -> Iterable[bytes]:
    made = moment_of(file_id)
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        groups.setdefault(one.group, []).append(one)
    name = _text(settings.debtor_name or "", 140)
    party = f"<Nm>{name}</Nm>"
    if settings.initiating_id is not None:
        party += f"<Id><OrgId><Othr><Id>{_text(settings.initiating_id, 35)}</Id></Othr></OrgId></Id>"
    yield (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn><GrpHdr>'
        f"<MsgId>{file_id}</MsgId><CreDtTm>{made.isoformat(timespec='seconds').replace('+00:00', 'Z')}</CreDtTm>"
        f"<NbOfTxs>{len(entries)}</NbOfTxs><CtrlSum>{_sum(entries)}</CtrlSum><InitgPty>{party}</InitgPty></GrpHdr>\n"
    ).encode()
    bearer = f"<ChrgBr>{settings.charges}</ChrgBr>" if settings.charges else ""
    for group, some in groups.items():
        day = group.split(" ", 2)[1] or made.date().isoformat()
        yield (
            f"<PmtInf><PmtInfId>{part_of(some[0].number, file_id)}</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>{len(some)}</NbOfTxs>"
            f"<CtrlSum>{_sum(some)}</CtrlSum><ReqdExctnDt><Dt>{day}</Dt></ReqdExctnDt><Dbtr><Nm>{name}</Nm></Dbtr>"
            f"<DbtrAcct>{_account(settings.debtor_account or '', None)}</DbtrAcct>"
            f"<DbtrAgt>{_agent(settings.debtor_agent or '', None)}</DbtrAgt>{bearer}\n"
        ).encode()
        for one in some:
            yield one.body
        yield b"</PmtInf>\n"
    yield b"</CstmrCdtTrfInitn></Document>\n"


def part_of(number: int, file_id: str) -> str:
    """Return the `PmtInfId` of a group: at most 35 characters, the file's id at its end."""
    return f"{number:03d}{file_id}"


def moment_of(file_id: str) -> datetime:
    """Return when a file was made: its id, a UUIDv7, begins with it."""
    return datetime.fromtimestamp((UUID(file_id).int >> 80) / 1000, UTC)


def _sum(entries: Iterable[Entry]) -> str:
    """Return the control sum: of the bare numbers, whatever the currencies, as the message's schema has it."""
    by_currency: dict[str, int] = {}
    for one in entries:
        currency = one.group.split(" ", 1)[0]
        by_currency[currency] = by_currency.get(currency, 0) + one.units
    most = max(MINOR_UNIT_DIGITS[currency] for currency in by_currency)
    total = sum(units * 10 ** (most - MINOR_UNIT_DIGITS[currency]) for currency, units in by_currency.items())
    text = str(total).rjust(most + 1, "0")
    return f"{text[:-most]}.{text[-most:]}" if most else text


def _account(number: str, id_type: str | None) -> str:
    compact = number.replace(" ", "")
    if _IBAN.fullmatch(compact) and id_type in {None, "IBAN"}:
        return f"<Id><IBAN>{compact}</IBAN></Id>"
    scheme = f"<SchmeNm><Prtry>{_text(id_type, 35)}</Prtry></SchmeNm>" if id_type else ""
    return f"<Id><Othr><Id>{_text(number, 34)}</Id>{scheme}</Othr></Id>"


def _agent(code: str, branch: str | None) -> str:
    inner = f"<BICFI>{code}</BICFI>" if _BIC.fullmatch(code) else f"<Othr><Id>{_text(code, 35)}</Id></Othr>"
    part = f"<BrnchId><Id>{_text(branch, 35)}</Id></BrnchId>" if branch else ""
    return f"<FinInstnId>{inner}</FinInstnId>{part}"


def _text(value: str, most: int) -> str:
    return escape(_ILLEGAL.sub(" ", value).strip()[:most])
