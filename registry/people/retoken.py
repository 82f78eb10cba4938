"""Making search tokens anew: of registrants who have none yet, and of those whose tokens were made in an earlier way."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect
from registry.people.record import Record
from registry.people.tokens import facets_of, registrant_tokens
from registry.storage.database import database_errors
from registry.vault import Vault, sealed_place

WAY: Final = 1
"""The way tokens are made now; the default of `registrant_search.made`. Raise both when equal names give other tokens."""
_SLOW: Final = 300.0
# Of somebody kept by reference no name is here to make tokens of.
_LACKING: Final = (
    "(s.registrant_id IS NULL OR s.made < $1) "
    "AND NOT EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = v.registrant_id)"
)
_COUNT: Final = f"""
SELECT count(*) FROM registrant_vault v LEFT JOIN registrant_search s USING (registrant_id) WHERE {_LACKING}
"""
# Whoever writes a registrant locks its document first too, so names and tokens never part.
_TAKE: Final = f"""
SELECT r.id, r.kind, r.source, r.version, r.birthdate, r.area_id, v.key_id, v.format, v.sealed
FROM registrant_vault v JOIN registrant r ON r.id = v.registrant_id
LEFT JOIN registrant_search s ON s.registrant_id = v.registrant_id
WHERE {_LACKING} AND v.registrant_id > $2 ORDER BY v.registrant_id LIMIT $3 FOR UPDATE OF v SKIP LOCKED
"""
_WRITE: Final = """
INSERT INTO registrant_search (registrant_id, names, contacts, facets, made)
SELECT id, names::bigint[], contacts::bigint[], facets::int[], $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS t (id, names, contacts, facets)
ON CONFLICT (registrant_id) DO UPDATE SET names = excluded.names, contacts = excluded.contacts, facets = excluded.facets,
    made = excluded.made
"""


async def count(pool: asyncpg.Pool) -> int:
    """Return how many registrants lack tokens of the newest way."""
    async with database_errors("counting search tokens"):
        return int(await pool.fetchval(_COUNT, WAY, timeout=_SLOW))


async def retoken(
    pool: asyncpg.Pool, vault: Vault, progress: Callable[[int], None] = lambda _: None, *, chunk: int = 1000
) -> int:
    """Make the tokens that are lacking, `chunk` registrants a transaction; return how many were made.

    What is lacking is told by the rows, so a run that was broken off goes on where it stopped. A document that cannot be
    opened is passed over; one that somebody is writing just now gets its tokens from the writer or from the next run.
    """
    tokens = partial(registrant_tokens, vault.blind)
    done, after, told = 0, UUID(int=0), time.monotonic()
    while True:
        async with (
            database_errors("making search tokens"),
            pool.acquire() as connection,
            connection.transaction(),
        ):
            rows = await connection.fetch(_TAKE, WAY, after, chunk, timeout=_SLOW)
            made = []
            for row in rows:
                try:
                    key = await vault.key(row["key_id"])
                    opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
                except Defect:
                    continue
                record = Record.from_bytes(row["id"], row["source"], row["version"], opened, kind=row["kind"])
                found = (*tokens(record.canonical()), facets_of(row["birthdate"], row["area_id"]))
                made.append((row["id"], *(_array(each) for each in found)))
            if made:
                await connection.execute(_WRITE, *zip(*made, strict=True), WAY)
        if not rows:
            return done
        done += len(made)
        after = rows[-1]["id"]
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            progress(done)


def _array(tokens: list[int]) -> str:
    return f"{{{','.join(map(str, tokens))}}}"
