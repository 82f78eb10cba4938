"""A bank that takes files: it checks them as a real one does, pays each payment once, and writes its reports."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from canonical_model.message import Message, uuid7
from connectors.bank_file.writing import NAMESPACE
from connectors.file.client import PART
from connectors.payments import sandbox
from connectors.payments.sandbox import PayingSandbox

_DOCUMENT: Final = "CstmrCdtTrfInitn"
# The order in which the schema has them; a bank's reader refuses another one.
_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "GrpHdr": ("MsgId", "CreDtTm", "NbOfTxs", "CtrlSum", "InitgPty"),
    "PmtInf": (
        "PmtInfId", "PmtMtd", "NbOfTxs", "CtrlSum", "ReqdExctnDt", "Dbtr", "DbtrAcct", "DbtrAgt", "ChrgBr", "CdtTrfTxInf",
    ),
    "CdtTrfTxInf": ("PmtId", "Amt", "CdtrAgt", "Cdtr", "CdtrAcct", "Purp", "RmtInf"),
    "PmtId": ("InstrId", "EndToEndId"),
}  # fmt: skip
_NEEDED: Final = {"GrpHdr": 5, "PmtInf": 9, "CdtTrfTxInf": 5, "PmtId": 1}


class BankRefuses(Exception):
    """The bank does not take a file; its text says why."""


class Bank:
    """A bank's desk over the folder: `work` takes what lies there; `rejects` and others say how it answers."""

    def __init__(self, folder: Path, results: Path) -> None:
        self.folder, self.results = folder, results
        self.paid: dict[str, str] = {}
        """Amount and currency paid, by EndToEndId."""
        self.rejects: dict[str, str] = {}
        """Reason code by name of the payee's account."""
        self.fee: str | None = None
        self.short: set[str] = set()
        """Accounts that are paid too little."""
        self.messages: set[str] = set()
        self.orders: list[dict[str, str]] = []

    def work(self, *, report: bool = True) -> list[str]:
        """Take every file in the folder; return the names of the reports written."""
        written = []
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(PART) or path.suffix not in {".xml", ".csv"}:
                continue
            orders = self._pain(path) if path.suffix == ".xml" else self._list(path)
            path.unlink()
            for order in orders:
                if order["reference"] in self.paid or order["reference"] in {
                    one["reference"] for one in self.orders
                }:
                    raise BankRefuses("DUPL: a payment came twice")
                self.orders.append(order)
                if order["account"] not in self.rejects:
                    self.paid[order["reference"]] = f"{order['amount']} {order['currency']}"
            if report:
                name = f"report-{path.stem}{path.suffix}"
                text = self.status(orders, path.stem) if path.suffix == ".xml" else self.listed(orders)
                self.put(name, text)
                written.append(name)
        return written

    def put(self, name: str, text: str) -> None:
        """Put a report into its place in one step."""
        part = self.results / f".{name}"
        part.write_text(text, encoding="utf-8")
        part.replace(self.results / name)

    def _pain(self, path: Path) -> list[dict[str, str]]:
        root = ElementTree.fromstring(path.read_bytes())  # noqa: S314 - a file the hub itself wrote
        if root.tag != f"{{{NAMESPACE}}}Document" or [child.tag for child in root] != [_tag(_DOCUMENT)]:
            raise BankRefuses("FF01: not a pain.001.001.09")
        for element in root.iter():
            _check(element)
        head = root[0][0]
        message = _value(head, "MsgId")
        if message in self.messages:
            raise BankRefuses("DUPL: the message came twice")
        self.messages.add(message)
        found: list[dict[str, str]] = []
        for part in root[0].findall(_tag("PmtInf")):
            own = [_order(one) for one in part.findall(_tag("CdtTrfTxInf"))]
            _sums(part, own)
            found += [{**one, "part": _value(part, "PmtInfId")} for one in own]
        _sums(head, found)
        return found

    @staticmethod
    def _list(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {
                    "reference": row["reference"], "amount": row["amount"], "currency": row["currency"],
                    "account": row["account_number"], "name": row["payee_name"],
                }
                for row in csv.DictReader(file)
            ]  # fmt: skip

    def status(self, orders: Sequence[Mapping[str, str]], message: str, paid: str = "ACSC") -> str:
        """Return a pain.002.001.10 about orders."""
        items = []
        for one in orders:
            code = self.rejects.get(one["account"])
            why = f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn></StsRsnInf>" if code else ""
            fee = f'<ChrgsInf><Amt Ccy="{one["currency"]}">{self.fee}</Amt></ChrgsInf>' if self.fee else ""
            amount = "0.01" if one["account"] in self.short else one["amount"]
            items.append(
                f"<TxInfAndSts><OrgnlEndToEndId>{one['reference']}</OrgnlEndToEndId>"
                f"<TxSts>{'RJCT' if code else paid}</TxSts>{why}{fee}<AcctSvcrRef>BK{one['reference'][-8:]}</AcctSvcrRef>"
                f'<OrgnlTxRef><Amt><InstdAmt Ccy="{one["currency"]}">{amount}</InstdAmt></Amt></OrgnlTxRef></TxInfAndSts>'
            )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10">'
            f"<CstmrPmtStsRpt><GrpHdr><MsgId>R{uuid7().hex}</MsgId><CreDtTm>2026-01-01T10:00:00Z</CreDtTm></GrpHdr>"
            f"<OrgnlGrpInfAndSts><OrgnlMsgId>{message}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>"
            f"</OrgnlGrpInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>001{message}</OrgnlPmtInfId>{''.join(items)}"
            "</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"
        )

    def booked(self, orders: Sequence[Mapping[str, str]], *, back: str | None = None) -> str:
        """Return a camt.054.001.08 of entries booked; with `back`, a reason code, of money that came back."""
        side = "CRDT" if back else "DBIT"
        why = f"<RtrInf><Rsn><Cd>{back}</Cd></Rsn></RtrInf>" if back else ""
        entries = "".join(
            f'<Ntry><Amt Ccy="{one["currency"]}">{one["amount"]}</Amt><CdtDbtInd>{side}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
            f"<BookgDt><Dt>2026-01-02</Dt></BookgDt><BkTxCd><Prtry><Cd>TRF</Cd></Prtry></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>{one['reference']}</EndToEndId></Refs>"
            f'<Amt Ccy="{one["currency"]}">{one["amount"]}</Amt><CdtDbtInd>{side}</CdtDbtInd>{why}</TxDtls></NtryDtls></Ntry>'
            for one in orders
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08">'
            f"<BkToCstmrDbtCdtNtfctn><GrpHdr><MsgId>N{uuid7().hex}</MsgId><CreDtTm>2026-01-02T10:00:00Z</CreDtTm></GrpHdr>"
            f"<Ntfctn><Id>1</Id><Acct><Id><Othr><Id>000-000001</Id></Othr></Id></Acct>{entries}</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>"
        )

    def listed(self, orders: Sequence[Mapping[str, str]]) -> str:
        """Return a cash-out list as it comes back."""
        lines = ["reference,status,amount,currency,fee,code,rail_reference,paid_at"]
        for one in orders:
            code = self.rejects.get(one["account"], "")
            state = "failed" if code else "paid"
            fee = self.fee or ""
            lines.append(
                f"{one['reference']},{state},{one['amount']},{one['currency']},{fee},{code},,2026-01-01T10:00:00Z"
            )
        return "\n".join(lines) + "\n"


class Folders:
    """The folders that bank and hub share, in place of a port."""

    path: Path

    async def start(self) -> None:
        """Make them."""
        self.path = Path(tempfile.mkdtemp(prefix="hub-bank-"))
        for name in ("out", "back"):
            (self.path / name).mkdir(mode=0o700)

    async def stop(self) -> None:
        """Take them away; safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that uses them."""
        return {"folder": str(self.path / "out"), "results": str(self.path / "back")}

    def secrets(self) -> Sequence[str]:
        """Return nothing: a folder has no secrets."""
        return ()


class BankFileSandbox(PayingSandbox[Folders]):
    """Folders in place of a system; what the kit switches is how the ledger takes payments."""

    def __init__(self) -> None:
        super().__init__(Folders())


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _value(element: ElementTree.Element, path: str) -> str:
    found = element.find("/".join(_tag(step) for step in path.split("/")))
    if found is None or not found.text:
        raise BankRefuses(f"FF01: {path} is missing")
    return found.text


def _check(element: ElementTree.Element) -> None:
    name = element.tag.rpartition("}")[2]
    if name not in _ORDER:
        return
    places = []
    for child in element:
        inner = child.tag.rpartition("}")[2]
        if inner not in _ORDER[name]:
            raise BankRefuses(f"FF01: {inner} in {name}")
        places.append(_ORDER[name].index(inner))
    if places != sorted(places) or len(set(places)) < _NEEDED[name]:
        raise BankRefuses(f"FF01: the elements of {name}")


def _order(element: ElementTree.Element) -> dict[str, str]:
    amount = element.find(f"{_tag('Amt')}/{_tag('InstdAmt')}")
    account = element.find(f"{_tag('CdtrAcct')}/{_tag('Id')}")
    if amount is None or not amount.text or account is None:
        raise BankRefuses("FF01: an amount or account is missing")
    reference = _value(element, "PmtId/EndToEndId")
    if len(reference) > 35:
        raise BankRefuses("FF01: EndToEndId is too long")
    number = _value(account, "IBAN") if account.find(_tag("IBAN")) is not None else _value(account, "Othr/Id")
    return {
        "reference": reference, "amount": amount.text, "currency": amount.get("Ccy", ""), "account": number,
        "name": _value(element, "Cdtr/Nm"),
    }  # fmt: skip


def _sums(element: ElementTree.Element, orders: Sequence[Mapping[str, str]]) -> None:
    total = sum((Decimal(one["amount"]) for one in orders), Decimal(0))
    if int(_value(element, "NbOfTxs")) != len(orders) or Decimal(_value(element, "CtrlSum")) != total:
        raise BankRefuses("AM10: the sums do not agree")


def example_message() -> Message:
    """Return the order to pay a made-up person."""
    return sandbox.example_message({"kind": "bank"})
