"""First answers: what a request with an Idempotency-Key was answered, for a repeat within a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from registry.vault import Vault, aad

HOURS: Final = 24
_TABLE: Final = "idempotency_key"
_FORGET: Final = "DELETE FROM idempotency_key WHERE made_at < now() - make_interval(hours => $1)"
_Connection = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, where the made thing is, and the bytes of the body."""

    status: int
    location: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What tells a repeat: who sends, which key for which operation, the hash of the body."""

    partner: str
    key_hash: bytes
    body_hash: bytes


class FirstAnswers:
    """Keeps answers sealed; both methods belong into the transaction of the work itself."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def request(self, partner: str, operation: str, key: str, body: bytes) -> Request:
        """Return what a request is recognised by; key and body are kept as keyed hashes only."""
        blind = self._vault.blind
        return Request(
            partner,
            blind.digest("idempotency", f"{operation}\x00{key}".encode()),
            blind.digest("idempotent body", body),
        )

    async def claim(self, connection: _Connection, request: Request) -> Answer | None:
        """Return the first answer, None for a first request, which waits for one of the same key that is under way.

        Raises `Refused` (`idempotency-key-reused`) for the same key with another body.
        """
        made = await connection.fetchval(
            "INSERT INTO idempotency_key (partner, key_hash, body_hash) VALUES ($1, $2, $3) "
            "ON CONFLICT DO NOTHING RETURNING true",
            request.partner, request.key_hash, request.body_hash,
        )  # fmt: skip
        if made:
            return None
        row = await connection.fetchrow(
            "SELECT body_hash, status, location, key_id, sealed FROM idempotency_key WHERE partner = $1 AND key_hash = $2",
            request.partner,
            request.key_hash,
        )
        if row is None or row["body_hash"] != request.body_hash:
            raise Refused(
                "The Idempotency-Key was used before with another body. Nothing was changed.",
                code="idempotency-key-reused",
                remedy="Use a new key for a new request, and the same key only to repeat one unchanged.",
            )
        key = await self._vault.key(row["key_id"])
        return Answer(row["status"], row["location"], key.open(row["sealed"], _bound(request)))

    async def keep(self, connection: _Connection, request: Request, answer: Answer) -> None:
        """Record the answer to a first request."""
        key = await self._vault.current_key(_TABLE, 1)
        await connection.execute(
            "UPDATE idempotency_key SET status = $3, location = $4, key_id = $5, sealed = $6 "
            "WHERE partner = $1 AND key_hash = $2",
            request.partner,
            request.key_hash,
            answer.status,
            answer.location,
            key.id,
            key.seal(answer.body, _bound(request)),
        )


async def forget(pool: asyncpg.Pool) -> None:
    """Forget answers given more than a day ago."""
    await pool.execute(_FORGET, HOURS)


def _bound(request: Request) -> bytes:
    return aad(_TABLE, "sealed", request.partner.encode() + b"\x00" + request.key_hash)
