"""The bodies of the ISO 20022 form of FSPIOP 2.0: acmt.024, pacs.081, pacs.082, pacs.008 and pacs.002 as JSON.

Same resources, addresses, flow and signatures as the plain form. There are no bulk messages in it. `ChrgBr` says who bears
the fees: `DEBT` means the payee gets the amount (RECEIVE), `CRED` that the amount leaves the payer (SEND).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from connectors.mojaloop.errors import is_code
from connectors.mojaloop.formats import HASH, amount_text, minor_units, moment_text, new_ulid, parse_moment
from connectors.mojaloop.ilp import read
from connectors.mojaloop.model import BodyInvalid, Order, Party, PartyFound, Payer, Quoted, Transferred

STATES: Final = {"RECV": "RECEIVED", "RESV": "RESERVED", "COMM": "COMMITTED", "ABOR": "ABORTED"}
ORGANISATIONS: Final = frozenset({"BUSINESS", "ALIAS", "DEVICE"})
"""Types of identifiers that stand under `OrgId`; the others stand under `PrvtId`."""


class IsoBodies:
    """JSON bodies in the words of ISO 20022."""

    bulk = False

    def new_id(self) -> str:
        """Return a ULID."""
        return new_ulid()

    def media_type(self, resource: str, version: str) -> str:
        """Return `application/vnd.interoperability.iso20022.<resource>+json;version=<version>`."""
        return f"application/vnd.interoperability.iso20022.{resource}+json;version={version}"

    def quote(self, order: Order, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of `POST /quotes` (pacs.081)."""
        return {
            "GrpHdr": header(expiration),
            "CdtTrfTxInf": {
                "PmtId": {"TxId": order.quote_id, "EndToEndId": order.transaction_id},
                **_sides(order, payer),
                "IntrBkSttlmAmt": active(order.amount, order.currency),
                "Purp": {"Prtry": payer.scenario},
            },
        }

    def transfer(self, order: Order, quoted: Quoted, payer: Payer, expiration: str) -> dict[str, Any]:
        """Return the body of `POST /transfers` (pacs.008); the condition travels inside the packet."""
        return {
            "GrpHdr": header(expiration),
            "CdtTrfTxInf": {
                "PmtId": {"TxId": order.transaction_id},
                **_sides(order, payer),
                "IntrBkSttlmAmt": active(quoted.amount, quoted.currency),
                "VrfctnOfTerms": {"IlpV4PrepPacket": quoted.packet},
            },
        }

    def read_party(self, body: Any) -> PartyFound:
        """Return the party of `PUT /parties/…` (acmt.024)."""
        found = _at(body, "Rpt", "UpdtdPtyAndAcctId")
        party = _dict(found.get("Pty"))
        agent = _at(found, "Agt", "FinInstnId")
        kind, identifier = _identified(party)
        currency = (found.get("Acct") or {}).get("Ccy")
        name = party.get("Nm")
        return PartyFound(
            Party(kind, identifier, _inner(agent, "ClrSysMmbId", "MmbId"), _inner(agent, "Othr", "Id")),
            name if isinstance(name, str) else None,
            tuple(str(currency).split()) if currency else (),
        )

    def read_quote(self, body: Any) -> Quoted:
        """Return the terms of `PUT /quotes/{ID}` (pacs.082)."""
        transfer = _at(body, "CdtTrfTxInf")
        amount, currency = _amount(transfer.get("IntrBkSttlmAmt"), "ActiveCurrencyAndAmount")
        receive = _same_currency(transfer.get("InstdAmt"), currency)
        charges = transfer.get("ChrgsInf")
        fee = _same_currency(charges.get("Amt"), currency) if isinstance(charges, dict) else None
        packet = _inner(transfer, "VrfctnOfTerms", "IlpV4PrepPacket")
        try:
            terms = read(packet)
            expires_at = parse_moment(_at(body, "GrpHdr").get("PmtInstrXpryDtTm"))
        except ValueError:
            raise BodyInvalid("the packet or the expiry is missing or malformed") from None
        if packet is None or terms.condition is None:
            raise BodyInvalid("the packet is not of version 4")
        return Quoted(amount, currency, receive, fee, expires_at, packet, terms.condition)

    def read_transfer(self, body: Any) -> Transferred:
        """Return the state of `PUT` or `PATCH /transfers/{ID}` (pacs.002)."""
        status = _at(body, "TxInfAndSts")
        state = STATES.get(str(status.get("TxSts")))
        if state is None:
            raise BodyInvalid("there is no known TxSts")
        proof = status.get("ExctnConf")
        try:
            completed: datetime | None = parse_moment(_inner(status, "PrcgDt", "DtTm"))
        except ValueError:
            completed = None
        fulfilment = proof if isinstance(proof, str) and HASH.fullmatch(proof) else None
        return Transferred(state, fulfilment, completed)

    def read_error(self, body: Any) -> str | None:
        """Return the code of an error, in any of the places where it may stand."""
        if not isinstance(body, dict):
            return None
        reason = _walk(body, "TxInfAndSts", "StsRsnInf", "Rsn") or _walk(body, "Rpt", "Rsn") or {}
        plain = _walk(body, "errorInformation") or {}
        for code in (reason.get("Cd"), reason.get("Prtry"), plain.get("errorCode")):
            if is_code(code):
                return str(code)
        return None


def header(expiration: str | None) -> dict[str, Any]:
    """Return a group header; a message id of its own, one transaction, settled by the hub."""
    found: dict[str, Any] = {
        "MsgId": new_ulid(),
        "CreDtTm": moment_text(datetime.now(UTC)),
        "NbOfTxs": "1",
        "SttlmInf": {"SttlmMtd": "CLRG"},
    }
    if expiration is not None:
        found["PmtInstrXpryDtTm"] = expiration
    return found


def active(amount: int, currency: str) -> dict[str, str]:
    """Return an amount of minor units as `IntrBkSttlmAmt` has it."""
    return {"Ccy": currency, "ActiveCurrencyAndAmount": amount_text(amount, currency)}


def identification(party: Party) -> dict[str, Any]:
    """Return a party's identifier under `OrgId` or `PrvtId`."""
    branch = "OrgId" if party.type in ORGANISATIONS else "PrvtId"
    return {branch: {"Othr": {"SchmeNm": {"Prtry": party.type}, "Id": party.identifier}}}


def agent(party: Party) -> dict[str, Any]:
    """Return a party's institution; its sub id, where it has one, stands there too."""
    institution: dict[str, Any] = {"Othr": {"Id": party.fsp}}
    if party.sub:
        institution["ClrSysMmbId"] = {"MmbId": party.sub}
    return {"FinInstnId": institution}


def _sides(order: Order, payer: Payer) -> dict[str, Any]:
    debtor: dict[str, Any] = {"Id": identification(payer.party)}
    if payer.name:
        debtor["Nm"] = payer.name
    creditor: dict[str, Any] = {"Id": identification(order.payee)}
    if order.payee_name:
        creditor["Nm"] = order.payee_name
    return {
        "ChrgBr": "DEBT" if payer.amount_type == "RECEIVE" else "CRED",
        "Dbtr": debtor,
        "DbtrAgt": agent(payer.party),
        "Cdtr": creditor,
        "CdtrAgt": agent(order.payee),
    }


def _identified(party: dict[str, Any]) -> tuple[str, str]:
    for branch in ("OrgId", "PrvtId"):
        other = _walk(party, "Id", branch, "Othr")
        if other:
            kind, identifier = (_walk(other, "SchmeNm") or {}).get("Prtry"), other.get("Id")
            if isinstance(kind, str) and isinstance(identifier, str):
                return kind, identifier
    raise BodyInvalid("the party has no identifier")


def _amount(value: object, member: str) -> tuple[int, str]:
    found = _dict(value)
    text = found.get(member)
    if isinstance(text, str) and "." in text:
        # Unlike the plain form, ISO amounts may end in zeros.
        text = text.rstrip("0").rstrip(".")
    try:
        return minor_units(text, found.get("Ccy")), str(found["Ccy"])
    except ValueError:
        raise BodyInvalid("an amount is malformed") from None


def _same_currency(value: object, currency: str) -> int | None:
    if value is None:
        return None
    amount, found = _amount(value, "ActiveOrHistoricCurrencyAndAmount")
    if found != currency:
        raise BodyInvalid("the amounts are of different currencies")
    return amount


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BodyInvalid("a part that must be an object is missing or is not one")
    return value


def _at(value: object, *path: str) -> dict[str, Any]:
    for step in path:
        value = _dict(value).get(step)
    return _dict(value)


def _walk(value: object, *path: str) -> dict[str, Any] | None:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _inner(value: object, *path: str) -> str | None:
    *before, last = path
    found = _walk(value, *before)
    text = found.get(last) if found else None
    return text if isinstance(text, str) and text else None
