"""The Core tables say what the migrations made."""

from __future__ import annotations

import asyncpg

import registry.storage.account_tables
import registry.storage.payment_tables
import registry.storage.program_tables  # noqa: F401 - their tables join the metadata
from registry.storage.tables import METADATA

_ALIKE = {
    "TEXT": "text",
    "UUID": "uuid",
    "BYTEA": "bytea",
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "SMALLINT": "smallint",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "REAL": "real",
    "JSON": "json",
    "JSONB": "jsonb",
    "TEXT[]": "ARRAY",
    "INTEGER[]": "ARRAY",
    "BIGINT[]": "ARRAY",
    "UUID[]": "ARRAY",
    "DOUBLE PRECISION": "double precision",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
}


async def test_every_table_has_the_columns_types_and_nullability_of_the_migrated_database(
    database_url: str,
) -> None:
    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        )
    finally:
        await connection.close()
    there: dict[str, list[tuple[str, str, bool]]] = {}
    for row in rows:
        there.setdefault(row[0], []).append((row[1], row[2], row[3] == "YES"))
    here = {
        name: [
            (column.name, _ALIKE[column.type.compile(dialect=PGDialect_asyncpg())], bool(column.nullable))
            for column in table.columns
        ]
        for name, table in METADATA.tables.items()
    }
    assert {name: there.get(name) for name in here} == here
