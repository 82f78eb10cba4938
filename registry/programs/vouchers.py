"""Vouchers: signed codes, a short one to type where the hub is asked, a long one that anybody checks with a public key.

Both begin with 13 bytes: a mark of the cycle (2 bytes), the entitlement's number in it (4), the amount in minor units (5), and
the last day it holds (2, days since 2020-01-01). The short code adds an HMAC-SHA256 over this and the cycle's id, cut to 7
bytes (RFC 2104 section 5 allows cutting; a guess is right once in 2^56), with a key that stays in the hub. The long code adds an
Ed25519 signature (RFC 8032) over the same, so that who checks it cannot make one. Both are written in Crockford's base32 and
stored nowhere: they follow from the entitlement and the cycle's secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from canonical_model.errors import ConfigError, Refused
from registry.programs import cycles
from registry.programs.refusals import Connection
from registry.signing import decode, encode
from registry.vault import Vault, aad

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ: Final = str.maketrans("OILoil", "011011", "- ")
_EPOCH: Final = date(2020, 1, 1)
_BODY: Final = 13
_MAC: Final = 7
_SIGNATURE: Final = 64
_LENGTH: Final = 32
_LONG: Final = 124
_SIGNED_AS: Final = b"openspp-hub voucher\x00"


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a code says: which entitlement of the cycle, how much, until when."""

    number: int
    amount: int
    valid_until: date


class VoucherChecker:
    """The public key of one cycle's vouchers: whoever holds it checks long codes without a connection, and can make none."""

    def __init__(self, cycle_id: UUID, key: Ed25519PublicKey) -> None:
        self._cycle, self._key = cycle_id.bytes, key
        self._mark = _mark(cycle_id)

    @classmethod
    def of(cls, jwk: Mapping[str, Any]) -> VoucherChecker:
        """Read the public key as `as_jwk` wrote it; raises `ConfigError` (`key-file-invalid`)."""
        try:
            if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
                raise ValueError
            return cls(UUID(jwk["kid"]), Ed25519PublicKey.from_public_bytes(decode(jwk["x"])))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(
                "This is no public key of vouchers.",
                code="key-file-invalid",
                remedy="Use what `hub program voucher key CYCLE` prints, as it is.",
            ) from None

    def as_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key (RFC 8037) whose `kid` is the cycle's id."""
        return {
            "kty": "OKP", "crv": "Ed25519", "x": encode(self._key.public_bytes_raw()), "alg": "EdDSA", "use": "sig",
            "kid": UUID(bytes=self._cycle).hex,
        }  # fmt: skip

    def read(self, code: str) -> Voucher:
        """Return what a long code says; raises `Refused` (`voucher-invalid`) for one that was not signed for the cycle."""
        raw = _bytes(code, _LONG, _BODY + _SIGNATURE)
        if raw is not None and raw[:2] == self._mark:
            with contextlib.suppress(InvalidSignature):
                self._key.verify(raw[_BODY:], _SIGNED_AS + self._cycle + raw[:_BODY])
                return _said(raw)
        raise _invalid()


class VoucherKey:
    """The secret of one cycle's vouchers, which makes codes; it never leaves the hub."""

    def __init__(self, cycle_id: UUID, secret: bytes) -> None:
        self._cycle = cycle_id.bytes
        self._secret = secret
        self._mark = _mark(cycle_id)
        seed = hmac.new(secret, b"ed25519" + self._cycle, hashlib.sha256).digest()
        self._signing = Ed25519PrivateKey.from_private_bytes(seed)
        self.checker = VoucherChecker(cycle_id, self._signing.public_key())

    def __repr__(self) -> str:
        return "VoucherKey(…)"

    def code(self, voucher: Voucher) -> str:
        """Return the short code of a voucher, in groups of four."""
        body = self._body(voucher)
        return _text(body + self._mac(body), _LENGTH)

    def signed(self, voucher: Voucher) -> str:
        """Return the long code of a voucher, in groups of four, for a square code (QR)."""
        body = self._body(voucher)
        return _text(body + self._signing.sign(_SIGNED_AS + self._cycle + body), _LONG)

    def read(self, code: str) -> Voucher:
        """Return what a code, short or long, says; raises `Refused` (`voucher-invalid`) for one this key did not make."""
        raw = _bytes(code, _LENGTH, _BODY + _MAC)
        if raw is None:
            return self.checker.read(code)
        if hmac.compare_digest(raw[_BODY:], self._mac(raw[:_BODY])):
            return _said(raw)
        raise _invalid()

    def _body(self, voucher: Voucher) -> bytes:
        return (
            self._mark
            + voucher.number.to_bytes(4, "big")
            + voucher.amount.to_bytes(5, "big")
            + (voucher.valid_until - _EPOCH).days.to_bytes(2, "big")
        )

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._secret, self._cycle + body, hashlib.sha256).digest()[:_MAC]


def _mark(cycle_id: UUID) -> bytes:
    return hashlib.sha256(b"voucher" + cycle_id.bytes).digest()[:2]


def _text(raw: bytes, length: int) -> str:
    number = int.from_bytes(raw, "big") << (length * 5 - len(raw) * 8)
    text = "".join(_ALPHABET[number >> shift & 31] for shift in range(length * 5 - 5, -1, -5))
    return "-".join(text[place : place + 4] for place in range(0, length, 4))


def _bytes(code: str, length: int, size: int) -> bytes | None:
    """Return what a code of this length stands for, None for another text."""
    if len(code) > 4 * _LONG:
        return None
    text = code.translate(_READ).upper()
    if len(text) != length or not all(letter in _ALPHABET for letter in text):
        return None
    number = 0
    for letter in text:
        number = number << 5 | _ALPHABET.index(letter)
    spare = length * 5 - size * 8
    return None if number & ((1 << spare) - 1) else (number >> spare).to_bytes(size, "big")


def _said(raw: bytes) -> Voucher:
    return Voucher(
        int.from_bytes(raw[2:6], "big"),
        int.from_bytes(raw[6:11], "big"),
        _EPOCH + timedelta(days=int.from_bytes(raw[11:13], "big")),
    )


def _invalid() -> Refused:
    return Refused(
        "This is no voucher of the cycle. Nothing was changed.",
        code="voucher-invalid",
        remedy="Type it again as it is printed, or read the square code again; dashes and case do not matter.",
    )


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
            "signed": key.signed(Voucher(row["number"], row["amount"], row["valid_until"])),
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


async def public_key(connection: Connection, vault: Vault, cycle_id: UUID) -> dict[str, str]:
    """Return the public key of a cycle's vouchers as a JSON Web Key, for devices that check long codes."""
    return (await key_of(connection, vault, cycle_id)).checker.as_jwk()
