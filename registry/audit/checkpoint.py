"""One link of the chain: what a checkpoint says, how events are hashed for it, and how it is signed.

An event is hashed over all its columns: SHA-256 of the UTF-8 text of a JSON array of id, at (UTC, without offset), actor,
action, object_type, object_id, outcome, request_id, details and transaction, written as PostgreSQL writes `jsonb`, which
keeps numbers exactly and the members of an object in one order. The server writes the text and the hub hashes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from registry.signing import SigningKey, decode, encode

FORM: Final = "jsonb-1"
TYP: Final = "audit-checkpoint+jws"
LEAF: Final = 48
"""Bytes of one event in `leaves`: its id and its SHA-256."""
CANONICAL: Final = (
    "convert_to(jsonb_build_array(id, at AT TIME ZONE 'UTC', actor, action, object_type, object_id, outcome, request_id, "
    "details, transaction)::text, 'UTF8')"
)
META: Final = "number, lower, upper, closed, first_id, last_id, count, late, signed, made_at"


class Signed(NamedTuple):
    """The parts of a compact JWS that need no key to be read."""

    kid: str
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one row of `audit_checkpoint` says, without its leaves.

    It holds for the events of transactions lower ≤ n < upper whose ids lie in first_id to last_id; a window of many events
    has several, the last of them `closed`.
    """

    number: int
    lower: int
    upper: int
    closed: bool
    first_id: UUID
    last_id: UUID
    count: int
    late: int
    signed: str
    made_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Checkpoint:
        """Return the checkpoint of a row with the columns of `META`."""
        return cls(*(row[name.strip()] for name in META.split(",")))

    @property
    def digest(self) -> str:
        """SHA-256 of the signed text in base64url; the next link names it."""
        return encode(hashlib.sha256(self.signed.encode()).digest())

    def claims(self, leaves: bytes, previous: str | None) -> dict[str, Any]:
        """Return what is signed: the columns, the hash of the leaves and the digest of the link before."""
        return {
            "form": FORM,
            "number": self.number,
            "previous": previous,
            "lower": self.lower,
            "upper": self.upper,
            "closed": self.closed,
            "first_id": str(self.first_id),
            "last_id": str(self.last_id),
            "count": self.count,
            "late": self.late,
            "leaves": encode(hashlib.sha256(leaves).digest()),
            "made_at": self.made_at.astimezone(UTC).isoformat(timespec="microseconds"),
        }


def sign(claims: Mapping[str, Any], key: SigningKey) -> str:
    """Return the compact JWS (ES256) over claims whose members stand in the order of their names."""
    return key.sign(orjson.dumps(dict(claims), option=orjson.OPT_SORT_KEYS), TYP)


def read_signed(signed: str) -> Signed | None:
    """Return the key id and claims of a compact JWS without verifying it; None for any other text."""
    pieces = signed.split(".")
    if len(pieces) != 3:
        return None
    try:
        header, claims = orjson.loads(decode(pieces[0])), orjson.loads(decode(pieces[1]))
    except ValueError:
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("typ") != TYP:
        return None
    return Signed(str(header.get("kid")), claims)


def leaf(id_: UUID, raw: bytes) -> bytes:
    """Return the leaf of one event from its canonical text."""
    return id_.bytes + hashlib.sha256(raw).digest()
