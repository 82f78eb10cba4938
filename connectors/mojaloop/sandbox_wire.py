"""What the sandbox's switch lets in and how its participants write: the checks of the real one, and bodies in both forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from connectors.mojaloop import iso20022
from connectors.mojaloop.formats import (
    FSP_ID,
    HASH,
    MAX_BODY,
    MAX_ITEMS,
    dumps,
    minor_units,
    moment_text,
    new_ulid,
    parse_moment,
)
from connectors.mojaloop.fspiop import FspiopBodies, money
from connectors.mojaloop.headers import parse_media_type
from connectors.mojaloop.model import Party

_ID_1: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_QUOTE: Final = {"quoteId", "transactionId", "payee", "payer", "amountType", "amount", "transactionType"}
_QUOTE_MAY: Final = {"transactionRequestId", "fees", "geoCode", "note", "expiration", "extensionList"}
_ITEM: Final = _QUOTE - {"payer"}
_TRANSFER: Final = {"transferId", "payerFsp", "payeeFsp", "amount", "ilpPacket", "condition", "expiration"}
_BULK_QUOTE: Final = {"bulkQuoteId", "payer", "individualQuotes"}
_BULK_TRANSFER: Final = {
    "bulkTransferId",
    "bulkQuoteId",
    "payerFsp",
    "payeeFsp",
    "individualTransfers",
    "expiration",
}
_BULK_ITEM: Final = {"transferId", "transferAmount", "ilpPacket", "condition"}


class Turned(Exception):
    """The switch does not take a request: HTTP status, error code, and the versions it speaks (with 406)."""

    def __init__(self, status: int, code: str, why: str, versions: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.status, self.code, self.why, self.versions = status, code, why, versions


@dataclass(frozen=True, slots=True)
class Asked:
    """One quote or transfer as a participant understands it; amounts in minor units."""

    id: str
    transaction_id: str
    payee: Party
    amount: int
    currency: str
    receive: bool
    raw: Mapping[str, Any]
    condition: str = ""
    packet: str = ""


class Wire:
    """Reads requests strictly and writes the bodies of callbacks, in one version of the standard."""

    def __init__(self, version: str, payer_fsp: str) -> None:
        self.version = version
        self.iso = version == "iso20022"
        self._payer_fsp = payer_fsp
        self._bodies: FspiopBodies | iso20022.IsoBodies = iso20022.IsoBodies() if self.iso else FspiopBodies()
        self.number = "1.1" if version == "1.1" else "2.0"

    def media_type(self, resource: str) -> str:
        """Return the content type of callbacks."""
        return self._bodies.media_type(resource, self.number)

    def check_headers(self, headers: Mapping[str, str], resource: str, *, body: bool) -> None:
        """Raise `Turned` for headers the switch does not take."""
        try:
            date = parsedate_to_datetime(headers["date"])
        except (KeyError, ValueError, TypeError):
            raise Turned(400, "3102", "Date is missing or no HTTP date") from None
        if not headers["date"].endswith("GMT") or date.tzinfo is None:
            raise Turned(400, "3101", "Date is no HTTP date")
        if headers.get("fspiop-source") != self._payer_fsp:
            raise Turned(400, "3202", "FSPIOP-Source is no participant")
        destination = headers.get("fspiop-destination")
        if destination is not None and not FSP_ID.fullmatch(destination):
            raise Turned(400, "3101", "FSPIOP-Destination is malformed")
        for name in ("accept", "content-type"):
            found = parse_media_type(headers.get(name, ""))
            if found is None or found.resource != resource or "," in headers.get(name, ""):
                raise Turned(400, "3101", f"{name} is missing or names another resource")
            major, minor = (int(part) for part in self.number.split("."))
            if found.iso != self.iso or found.major != major or found.minor not in {None, 0, minor}:
                raise Turned(406, "3001", "that version is not spoken here", (self.number,))
            if name == "content-type" and found.minor is None:
                raise Turned(400, "3101", "content-type needs major and minor version")
        if body and headers.get("fspiop-signature") is None:
            raise Turned(400, "3105", "the signature is missing")

    def check_body(self, raw: bytes) -> dict[str, Any]:
        """Return a body; raises `Turned` for one that is too large, no JSON object, or not in the sorted compact form.

        The newest reference verifier serialises again with sorted keys, so another form fails its signature check.
        """
        if len(raw) > MAX_BODY:
            raise Turned(400, "3104", "the body is too large")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise Turned(400, "3101", "the body is no JSON") from None
        if not isinstance(body, dict):
            raise Turned(400, "3101", "the body is no object")
        if dumps(body) != raw:
            raise Turned(400, "3105", "the signature does not fit the sorted form")
        return body

    def read_quote(self, body: dict[str, Any]) -> Asked:
        """Return a quote request; raises `Turned`."""
        if self.iso:
            return self._iso(body, body_id="TxId", transaction="EndToEndId", must={"PmtId", "Dbtr", "Purp"})
        _members(body, _QUOTE, _QUOTE_MAY)
        return self._quote(body)

    def read_bulk_quote(self, body: dict[str, Any]) -> list[Asked]:
        """Return the items of a bulk quote request; raises `Turned`."""
        _members(body, _BULK_QUOTE, {"geoCode", "expiration", "extensionList"})
        self._id(body["bulkQuoteId"])
        items = _items(body["individualQuotes"])
        for item in items:
            _members(item, _ITEM, _QUOTE_MAY)
        return [self._quote(item | {"payer": body["payer"]}) for item in items]

    def read_transfer(self, body: dict[str, Any]) -> Asked:
        """Return a transfer request; raises `Turned`."""
        if self.iso:
            found = self._iso(body, body_id="TxId", transaction="TxId", must={"PmtId", "VrfctnOfTerms"})
            packet = body["CdtTrfTxInf"]["VrfctnOfTerms"].get("IlpV4PrepPacket", "")
            return _with(found, packet=packet)
        _members(body, _TRANSFER, {"extensionList"})
        self._expiry(body["expiration"])
        return self._transfer(body, body["amount"], body["payeeFsp"])

    def read_bulk_transfer(self, body: dict[str, Any]) -> list[Asked]:
        """Return the items of a bulk transfer request; raises `Turned`."""
        _members(body, _BULK_TRANSFER, {"extensionList"})
        self._id(body["bulkTransferId"])
        self._id(body["bulkQuoteId"])
        self._expiry(body["expiration"])
        items = _items(body["individualTransfers"])
        for item in items:
            _members(item, _BULK_ITEM, {"extensionList"})
        return [self._transfer(item, item["transferAmount"], body["payeeFsp"]) for item in items]

    def party(self, party: Party, name: str) -> dict[str, Any]:
        """Return the body of a look-up's answer."""
        if not self.iso:
            info = {"partyIdType": party.type, "partyIdentifier": party.identifier, "fspId": party.fsp}
            if party.sub:
                info["partySubIdOrType"] = party.sub
            return {"party": {"partyIdInfo": info, "name": name}}
        return {
            "Assgnmt": {
                "MsgId": new_ulid(),
                "CreDtTm": moment_text(datetime.now(UTC)),
                "Assgnr": {"Agt": {"FinInstnId": {"Othr": {"Id": party.fsp}}}},
                "Assgne": {"Agt": {"FinInstnId": {"Othr": {"Id": self._payer_fsp}}}},
            },
            "Rpt": {
                "OrgnlId": party.key[:35],
                "Vrfctn": True,
                "UpdtdPtyAndAcctId": {
                    "Pty": {"Nm": name, "Id": iso20022.identification(party)},
                    "Agt": iso20022.agent(party),
                },
            },
        }

    def terms(
        self, asked: Asked, amount: int, receive: int, expiration: str, packet: str, condition: str
    ) -> dict[str, Any]:
        """Return the body of a quote's answer."""
        if not self.iso:
            return {
                "transferAmount": money(amount, asked.currency),
                "payeeReceiveAmount": money(receive, asked.currency),
                "expiration": expiration,
                "ilpPacket": packet,
                "condition": condition,
            }
        transfer = {k: v for k, v in asked.raw["CdtTrfTxInf"].items() if k != "Purp"}
        transfer["IntrBkSttlmAmt"] = iso20022.active(amount, asked.currency)
        received = money(receive, asked.currency)
        transfer["InstdAmt"] = {
            "Ccy": asked.currency,
            "ActiveOrHistoricCurrencyAndAmount": received["amount"],
        }
        transfer["VrfctnOfTerms"] = {"IlpV4PrepPacket": packet}
        return {"GrpHdr": iso20022.header(expiration), "CdtTrfTxInf": transfer}

    def state(self, state: str, fulfilment: str | None) -> dict[str, Any]:
        """Return the body of a transfer's state."""
        now = moment_text(datetime.now(UTC))
        if not self.iso:
            body = {"transferState": state, "completedTimestamp": now}
            return body | ({"fulfilment": fulfilment} if fulfilment else {})
        code = {name: short for short, name in iso20022.STATES.items()}[state]
        status: dict[str, Any] = {"TxSts": code, "PrcgDt": {"DtTm": now}}
        if fulfilment:
            status["ExctnConf"] = fulfilment
        head = {"MsgId": new_ulid(), "CreDtTm": now}
        return {"GrpHdr": head, "TxInfAndSts": status}

    def error(self, code: str, resource: str) -> dict[str, Any]:
        """Return an error body as callbacks have it."""
        if not self.iso:
            return {"errorInformation": {"errorCode": code, "errorDescription": f"sandbox says {code}"}}
        now = moment_text(datetime.now(UTC))
        if resource == "parties":
            agent = {"Agt": {"FinInstnId": {"Othr": {"Id": "switch"}}}}
            assigned = {"MsgId": new_ulid(), "CreDtTm": now, "Assgnr": agent, "Assgne": agent}
            return {"Assgnmt": assigned, "Rpt": {"OrgnlId": "x", "Vrfctn": False, "Rsn": {"Cd": code}}}
        return {
            "GrpHdr": {"MsgId": new_ulid(), "CreDtTm": now},
            "TxInfAndSts": {"StsRsnInf": {"Rsn": {"Prtry": code}}},
        }

    def _id(self, value: object) -> None:
        good = isinstance(value, str) and (
            _ID_1.fullmatch(value) or (self.version != "1.1" and _ULID.fullmatch(value))
        )
        if not good:
            raise Turned(400, "3101", "an id has the wrong form")

    def _quote(self, body: dict[str, Any]) -> Asked:
        self._id(body["quoteId"])
        self._id(body["transactionId"])
        amount, currency = _money(body["amount"])
        kind = body["transactionType"]
        _members(kind, {"scenario", "initiator", "initiatorType"}, {"subScenario", "balanceOfPayments"})
        if not re.fullmatch(r"[A-Z_]{1,32}", kind.get("subScenario", "X")):
            raise Turned(400, "3101", "subScenario is malformed")
        if body["amountType"] not in {"SEND", "RECEIVE"}:
            raise Turned(400, "3101", "amountType is unknown")
        if "expiration" in body:
            self._expiry(body["expiration"])
        if "note" in body and not 1 <= len(body["note"]) <= 128:
            raise Turned(400, "3101", "note is empty or too long")
        return Asked(
            body["quoteId"],
            body["transactionId"],
            _party(body["payee"]),
            amount,
            currency,
            body["amountType"] == "RECEIVE",
            body,
        )

    def _transfer(self, body: dict[str, Any], given: Any, payee_fsp: Any) -> Asked:
        self._id(body["transferId"])
        if set(given) != {"currency", "amount"}:
            raise Turned(400, "3101", "amount holds currency and amount only")
        amount, currency = _money(given)
        if not HASH.fullmatch(str(body["condition"])):
            raise Turned(400, "3101", "condition is malformed")
        payee = Party("", "", None, str(payee_fsp))
        packet, condition = str(body["ilpPacket"]), str(body["condition"])
        return Asked(
            body["transferId"],
            body["transferId"],
            payee,
            amount,
            currency,
            False,
            body,
            condition,
            packet,
        )

    def _iso(self, body: dict[str, Any], *, body_id: str, transaction: str, must: set[str]) -> Asked:
        _members(body, {"GrpHdr", "CdtTrfTxInf"}, set())
        transfer = body["CdtTrfTxInf"]
        wanted = must | {"IntrBkSttlmAmt", "ChrgBr", "Dbtr", "DbtrAgt", "Cdtr", "CdtrAgt"}
        if wanted - set(transfer):
            raise Turned(400, "3102", "an element is missing")
        self._expiry(body["GrpHdr"].get("PmtInstrXpryDtTm"))
        ids = transfer["PmtId"]
        for value in ids.values():
            if not _ULID.fullmatch(str(value)):
                raise Turned(400, "3101", "an id has the wrong form")
        given = transfer["IntrBkSttlmAmt"]
        amount, currency = _money(
            {"amount": given.get("ActiveCurrencyAndAmount"), "currency": given.get("Ccy")}
        )
        ((_, identity),) = transfer["Cdtr"]["Id"].items()
        agent = transfer["CdtrAgt"]["FinInstnId"]
        payee = Party(
            identity["Othr"]["SchmeNm"]["Prtry"],
            identity["Othr"]["Id"],
            agent.get("ClrSysMmbId", {}).get("MmbId"),
            agent["Othr"]["Id"],
        )
        return Asked(
            ids[body_id], ids[transaction], payee, amount, currency, transfer["ChrgBr"] == "DEBT", body
        )

    @staticmethod
    def _expiry(value: object) -> None:
        try:
            expires = parse_moment(value)
        except ValueError:
            raise Turned(400, "3101", "the expiration is missing or malformed") from None
        if expires <= datetime.now(UTC):
            raise Turned(400, "3300", "the expiration has passed")


def _with(asked: Asked, packet: str) -> Asked:
    return Asked(
        asked.id,
        asked.transaction_id,
        asked.payee,
        asked.amount,
        asked.currency,
        asked.receive,
        asked.raw,
        "",
        packet,
    )


def _members(body: Any, must: set[str], may: set[str]) -> None:
    if not isinstance(body, dict):
        raise Turned(400, "3101", "an element is no object")
    if must - set(body):
        raise Turned(400, "3102", "an element is missing")
    if set(body) - must - may:
        raise Turned(400, "3103", "an element is unknown")


def _items(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise Turned(400, "3102", "there are no items")
    if len(value) > MAX_ITEMS:
        raise Turned(400, "3103", "there are more than a thousand items")
    return value


def _money(value: Any) -> tuple[int, str]:
    try:
        return minor_units(value.get("amount"), value.get("currency")), value["currency"]
    except (ValueError, AttributeError):
        raise Turned(400, "3101", "an amount is malformed") from None


def _party(value: Any) -> Party:
    info = value.get("partyIdInfo") if isinstance(value, dict) else None
    _members(info, {"partyIdType", "partyIdentifier"}, {"partySubIdOrType", "fspId", "extensionList"})
    assert isinstance(info, dict)  # _members has looked
    return Party(
        info["partyIdType"], info["partyIdentifier"], info.get("partySubIdOrType"), info.get("fspId")
    )


def read_party_of(value: Any, fsp: str) -> Party:
    """Return a party as the scheme adapter's API has it; raises `Turned`."""
    _members(
        value,
        {"idType", "idValue"},
        {"idSubValue", "displayName", "type", "firstName", "middleName", "lastName", "dateOfBirth", "fspId"},
    )
    return Party(value["idType"], value["idValue"], value.get("idSubValue"), fsp)
