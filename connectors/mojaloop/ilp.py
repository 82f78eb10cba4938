"""Interledger packets, conditions and fulfilments as Mojaloop makes them.

A payer copies packet and condition, reads the packet to see that it says what was asked for, and hashes the fulfilment.
Making them is the payee's part; the sandbox needs it. Byte for byte as the reference library does it (v1 for FSPIOP 1.x and
2.0, v4 for ISO 20022 bodies).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from connectors.mojaloop.formats import HASH, dumps, minor_units, parse_moment

_V1: Final = 0x01
_V4: Final = 0x0C
_MAX_PACKET: Final = 32_768


@dataclass(frozen=True, slots=True)
class Terms:
    """What a packet says: the amount in minor units, the transaction in clear, and in v4 the condition and the expiry."""

    amount: int
    transaction: Mapping[str, Any]
    condition: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a payee institution answers a quote with; the fulfilment stays with it until the transfer comes."""

    packet: str
    condition: str
    fulfilment: str


def b64url(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def un_b64url(text: str) -> bytes:
    """Return the bytes of base64url without padding; raises `ValueError`."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None


def fulfils(fulfilment: object, condition: str) -> bool:
    """Say whether a fulfilment is the preimage of a condition: the proof that the payee institution took the money."""
    if not isinstance(fulfilment, str) or not HASH.fullmatch(fulfilment):
        return False
    found = b64url(hashlib.sha256(un_b64url(fulfilment)).digest())
    return hmac.compare_digest(found, condition)


def read(packet: object) -> Terms:
    """Return what a packet says; raises `ValueError` for bytes that are no packet of either kind."""
    if not isinstance(packet, str) or not 0 < len(packet) <= _MAX_PACKET:
        raise ValueError("not a packet")
    raw = un_b64url(packet)
    if not raw or raw[0] not in {_V1, _V4}:
        raise ValueError("not a packet of a known kind")
    content, end = _take(raw, 1)
    if end != len(raw) or len(content) < 8:
        raise ValueError("a packet with a wrong length")
    amount = int.from_bytes(content[:8], "big")
    if raw[0] == _V1:
        _, place = _take(content, 8)
        data, _ = _take(content, place)
        return Terms(amount, _transaction(data))
    expiry, condition = content[8:25], content[25:57]
    if len(condition) != 32:
        raise ValueError("a packet that ends early")
    _, place = _take(content, 57)
    data, _ = _take(content, place)
    moment = datetime.strptime(expiry.decode("ascii") + "000", "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
    return Terms(amount, _transaction(data), b64url(condition), moment)


def prepare(transaction: Mapping[str, Any], secret: str, *, v4: bool = False) -> Prepared:
    """Return packet, condition and fulfilment for a transaction; raises `ValueError` when it lacks a part.

    `transaction` holds quoteId, transactionId, transactionType, payee, payer, expiration and amount.
    """
    money = transaction["amount"]
    amount = minor_units(money["amount"], money["currency"]).to_bytes(8, "big")
    key = base64.b64encode(secret.encode())
    text = dumps(transaction)
    data = b64url(text).encode()
    if v4:
        image = hmac.digest(key, base64.b64encode(text), "sha256")
        condition = hashlib.sha256(image).digest()
        moment = parse_moment(transaction["expiration"]).astimezone(UTC)
        expiry = moment.strftime("%Y%m%d%H%M%S") + f"{moment.microsecond // 1000:03d}"
        content = amount + expiry.encode() + condition + _variable(b"g.mojaloop") + _variable(data)
        return Prepared(b64url(bytes([_V4]) + _variable(content)), b64url(condition), b64url(image))
    content = amount + _variable(_account(transaction["payee"]["partyIdInfo"])) + _variable(data) + b"\x00"
    packet = b64url(bytes([_V1]) + _variable(content))
    image = hmac.digest(key, packet.encode(), "sha256")
    return Prepared(packet, b64url(hashlib.sha256(image).digest()), b64url(image))


def _account(party: Mapping[str, Any]) -> bytes:
    parts = [
        "g",
        str(party["fspId"]),
        str(party["partyIdType"]).lower(),
        str(party["partyIdentifier"]).lower(),
    ]
    if party.get("partySubIdOrType"):
        parts.append(str(party["partySubIdOrType"]).lower())
    return ".".join(parts).encode()


def _variable(raw: bytes) -> bytes:
    """Return bytes with their length before them (OER)."""
    size = len(raw)
    if size < 128:
        return bytes([size]) + raw
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(length)]) + length + raw


def _take(raw: bytes, place: int) -> tuple[bytes, int]:
    """Return the variable field at a place and where it ends."""
    if place >= len(raw):
        raise ValueError("a packet that ends early")
    size, place = raw[place], place + 1
    if size & 0x80:
        count = size & 0x7F
        if not 0 < count <= 4 or place + count > len(raw):
            raise ValueError("a packet with a wrong length")
        size, place = int.from_bytes(raw[place : place + count], "big"), place + count
    if place + size > len(raw):
        raise ValueError("a packet that ends early")
    return raw[place : place + size], place + size


def _transaction(data: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(un_b64url(data.decode("ascii")))
    except ValueError:
        raise ValueError("a packet without a readable transaction") from None
    if not isinstance(found, dict):
        raise ValueError("a packet without a readable transaction")
    return found
