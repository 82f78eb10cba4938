"""The rows of a payment batch, fetched with its claim: streamed in the order of their ids, the same at every fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.account import Account
from canonical_model.errors import Refused
from canonical_model.payment import PaymentInstruction
from canonical_model.person import Person
from canonical_model.types import to_data
from registry.audit import AuditEvent, insert_many
from registry.people.record import Record
from registry.people.referring import joined, unconfigured
from registry.programs import decisions
from registry.programs.cycles import Cycle
from registry.programs.distribution import instruction
from registry.programs.refusals import STEP_SECONDS, Connection, transaction
from registry.storage.database import database_errors
from registry.vault import ReferenceVault, Vault, sealed_place

_PAGE: Final = 500
_MOST_SINGLES: Final = 10_000
_PURPOSE: Final = "payment"
# What was taken out of the batch before it went was never sent and is no row of it.
_ROWS: Final = """
SELECT p.id, p.entitlement_id, p.recipient_id, p.amount, r.source, r.version, a.code AS area,
    r.attributes ->> 'preferred_rail' AS preferred, v.key_id, v.format, v.sealed,
    EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = p.recipient_id) AS referred
FROM payment p JOIN registrant r ON r.id = p.recipient_id LEFT JOIN area a ON a.id = r.area_id
    LEFT JOIN registrant_vault v ON v.registrant_id = p.recipient_id
WHERE p.batch_id = $1 AND p.id > $2 AND p.sent_at IS NOT NULL ORDER BY p.id LIMIT $3
"""


class BatchRows:
    """The service `rows` of connectors that send batches."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, references: ReferenceVault | None = None) -> None:
        self._pool, self._vault, self._references = pool, vault, references

    async def stream(self, claim: str) -> AsyncIterator[dict[str, Any]]:
        """Yield each payment of a batch as the data of a canonical `PaymentInstruction`, each registrant of a question by its id.

        With the first fetch the payments count as sent, and nothing can be taken out any more. Raises `Refused`:
        `batch-claim-unknown`, `batch-superseded` when rows were taken out and a later message orders the rest.
        """
        if claim.startswith("decision/"):
            async for asked in decisions.rows(self._pool, claim):
                yield asked
            return
        batch_id, version = _read(claim)
        async with transaction(self._pool, "fetching the rows of a batch") as connection:
            batch = await connection.fetchrow(
                "SELECT b.version, b.fetched_at, c.id AS cycle_id, c.currency, p.code FROM payment_batch b "
                "JOIN cycle c ON c.id = b.cycle_id JOIN program p ON p.id = c.program_id "
                "WHERE b.id = $1 FOR NO KEY UPDATE OF c, b",
                batch_id,
            )
            if batch is None:
                raise _unknown()
            if batch["version"] != version:
                raise Refused(
                    f"Payments were taken out of batch {batch_id} after this message; version {batch['version']} orders the rest.",
                    code="batch-superseded",
                    remedy="Nothing: the later message pays the others.",
                )
            if batch["fetched_at"] is None:
                await connection.execute(
                    "UPDATE payment_batch SET fetched_at = now() WHERE id = $1", batch_id
                )
                await connection.execute(
                    "UPDATE payment SET state = 'sent', sent_at = now() WHERE batch_id = $1 AND state = 'issued'",
                    batch_id,
                    timeout=STEP_SECONDS,
                )
            await insert_many(
                connection,
                [
                    AuditEvent(
                        "hub",
                        "payment_batch.fetch",
                        "payment_batch",
                        str(batch_id),
                        details={"purpose": _PURPOSE, "version": version},
                    )
                ],
            )
        after = UUID(int=0)
        while True:
            async with database_errors("fetching the rows of a batch"):
                rows = await self._pool.fetch(_ROWS, batch_id, after, _PAGE)
            told = await self._told(rows)
            for row in rows:
                after = row["id"]
                known = await self._known(row, batch["currency"], told)
                yield to_data(
                    instruction(batch["code"], batch["cycle_id"], batch["currency"], batch_id, row, **known)
                )
            if len(rows) < _PAGE:
                return

    async def instructions(
        self, connection: Connection, cycle: Cycle, batch_id: UUID
    ) -> list[PaymentInstruction]:
        """Return the order of each payment of a batch that is paid one by one, as the caller's transaction sees them."""
        event = AuditEvent(
            "hub", "payment_batch.fetch", "payment_batch", str(batch_id), details={"purpose": _PURPOSE}
        )
        await insert_many(connection, [event])
        rows = await connection.fetch(_ROWS, batch_id, UUID(int=0), _MOST_SINGLES)
        told = await self._told(rows)
        return [
            instruction(
                cycle.program,
                cycle.id,
                cycle.currency,
                batch_id,
                row,
                **await self._known(row, cycle.currency, told),
            )
            for row in rows
        ]

    async def _told(self, rows: Sequence[asyncpg.Record]) -> Mapping[UUID, bytes]:
        """Return what the ID system tells of those kept by reference; raises `Unavailable` when it does not answer."""
        referred = list({row["recipient_id"] for row in rows if row["referred"]})
        if not referred:
            return {}
        if self._references is None:
            raise unconfigured(referred[0])
        return await self._references.get(referred)

    async def _known(self, row: asyncpg.Record, currency: str, told: Mapping[UUID, bytes]) -> dict[str, Any]:
        if row["sealed"] is None:
            return {}
        key = await self._vault.key(row["key_id"])
        opened = key.open(row["sealed"], sealed_place(row["format"], row["recipient_id"]))
        person = Record.from_bytes(
            row["recipient_id"], row["source"], row["version"], opened, kind="individual"
        ).canonical()
        if not isinstance(person, Person):
            return {}
        if row["referred"]:
            document = told.get(row["recipient_id"])
            if document is None or self._references is None:
                return {}
            person = joined(row["recipient_id"], person, document, self._references.system)
        account = _account(person, currency)
        known: dict[str, Any] = {
            "payee_account": account,
            "payee_name": person.names[0] if person.names else None,
        }
        if account is None:
            # The rail finds the account by who it belongs to.
            known["payee"] = {"identifiers": person.identifiers[:20]}
        return {name: value for name, value in known.items() if value is not None}


def _account(person: Person, currency: str) -> Account | None:
    fitting = [one for one in person.accounts if one.currency in {None, currency}]
    return fitting[0] if fitting else None


def _read(claim: str) -> tuple[UUID, int]:
    kind, _, rest = claim.partition("/")
    raw, _, version = rest.partition("/")
    try:
        if kind == "payment_batch" and len(version) < 9:
            return UUID(raw), int(version)
    except ValueError:
        pass
    raise _unknown()


def _unknown() -> Refused:
    return Refused(
        "The claim names no batch of this hub; no rows were given.",
        code="batch-claim-unknown",
        remedy="Use the rows_claim of the batch's message as it is.",
    )
