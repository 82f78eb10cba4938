"""Vouchers: short signed codes that a shop's device checks without a connection, with the key of the cycle.

A code is 20 bytes in Crockford's base32 (32 letters and digits): a mark of the cycle (2 bytes), the entitlement's number in
it (4), the amount in minor units (5), the last day it holds (2, days since 2020-01-01), and an HMAC-SHA256 over all of
this and the cycle's id, cut to 7 bytes (RFC 2104 section 5 allows cutting; a guess is right once in 2^56). It is stored
nowhere: it follows from the entitlement and the key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from canonical_model.errors import Refused
from registry.programs import cycles
from registry.programs.refusals import Connection
from registry.vault import Vault, aad

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ: Final = str.maketrans("OILoil", "011011", "- ")
_EPOCH: Final = date(2020, 1, 1)
_BODY: Final = 13
_MAC: Final = 7
_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a code says: which entitlement of the cycle, how much, until when."""

    number: int
    amount: int
    valid_until: date


class VoucherKey:
    """The key of one cycle's vouchers; whoever holds it can check codes, and make them, so it goes to trusted devices only."""

    def __init__(self, cycle_id: UUID, secret: bytes) -> None:
        self._cycle = cycle_id.bytes
        self._secret = secret
        self._mark = hashlib.sha256(b"voucher" + self._cycle).digest()[:2]

    def __repr__(self) -> str:
        return "VoucherKey(…)"

    def code(self, voucher: Voucher) -> str:
        """Return the code of a voucher, in groups of four."""
        body = (
            self._mark
            + voucher.number.to_bytes(4, "big")
            + voucher.amount.to_bytes(5, "big")
            + (voucher.valid_until - _EPOCH).days.to_bytes(2, "big")
        )
        number = int.from_bytes(body + self._mac(body), "big")
        text = "".join(_ALPHABET[number >> shift & 31] for shift in range(155, -1, -5))
        return "-".join(text[place : place + 4] for place in range(0, _LENGTH, 4))

    def read(self, code: str) -> Voucher:
        """Return what a code says; raises `Refused` (`voucher-invalid`) for one this key did not make."""
        text = code.translate(_READ).upper()
        if len(text) == _LENGTH and all(letter in _ALPHABET for letter in text):
            number = 0
            for letter in text:
                number = number << 5 | _ALPHABET.index(letter)
            raw = number.to_bytes(_BODY + _MAC, "big")
            body, mac = raw[:_BODY], raw[_BODY:]
            if hmac.compare_digest(mac, self._mac(body)):
                return Voucher(
                    int.from_bytes(body[2:6], "big"),
                    int.from_bytes(body[6:11], "big"),
                    _EPOCH + timedelta(days=int.from_bytes(body[11:13], "big")),
                )
        raise Refused(
            "This is no voucher of the cycle. Nothing was changed.",
            code="voucher-invalid",
            remedy="Type it again as it is printed; dashes and case do not matter.",
        )

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._secret, self._cycle + body, hashlib.sha256).digest()[:_MAC]


async def key_of(connection: Connection, vault: Vault, cycle_id: UUID) -> VoucherKey:
    """Return the voucher key of a cycle, made when first needed; it lies sealed."""
    cycle = await cycles.get(connection, cycle_id, lock=True)
    place = aad("cycle", "voucher_key", cycle_id.bytes)
    if cycle.voucher_key is not None and cycle.voucher_key_id is not None:
        key = await vault.key(cycle.voucher_key_id)
        return VoucherKey(cycle_id, key.open(cycle.voucher_key, place))
    secret = secrets.token_bytes(32)
    key = await vault.current_key("cycle")
    await connection.execute(
        "UPDATE cycle SET voucher_key_id = $2, voucher_key = $3 WHERE id = $1",
        cycle_id,
        key.id,
        key.seal(secret, place),
    )
    return VoucherKey(cycle_id, secret)


async def listed(
    connection: Connection, vault: Vault, cycle_id: UUID, after: int = 0, limit: int = 1000
) -> list[dict[str, object]]:
    """Return the vouchers of a distributed cycle that may be handed out, by number, behind `after`."""
    key = await key_of(connection, vault, cycle_id)
    rows = await connection.fetch(
        "SELECT id, registrant_id, recipient_id, number, amount + topped AS amount, valid_until FROM entitlement "
        "WHERE cycle_id = $1 AND kind = 'voucher' AND state = 'sent_to_provider' AND held IS NULL AND number > $2 "
        "ORDER BY number LIMIT $3",
        cycle_id,
        after,
        min(limit, 100_000),
    )
    return [
        {
            "entitlement": row["id"], "recipient": row["recipient_id"], "number": row["number"],
            "amount": row["amount"], "valid_until": row["valid_until"],
            "code": key.code(Voucher(row["number"], row["amount"], row["valid_until"])),
        }
        for row in rows
    ]  # fmt: skip


async def find(connection: Connection, vault: Vault, cycle_id: UUID, code: str) -> UUID:
    """Return the entitlement of a code; raises `Refused` (`voucher-invalid`)."""
    key = await key_of(connection, vault, cycle_id)
    voucher = key.read(code)
    found = await connection.fetchval(
        "SELECT id FROM entitlement WHERE cycle_id = $1 AND number = $2 AND kind = 'voucher' AND amount + topped = $3",
        cycle_id,
        voucher.number,
        voucher.amount,
    )
    if found is None:
        raise Refused(
            "This voucher belongs to no entitlement of the cycle. Nothing was changed.",
            code="voucher-invalid",
            remedy="Ask where it comes from.",
        )
    return UUID(str(found))
