"""Schemas of attributes in a real database: versions, what they would break, indexes made while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from canonical_model.errors import Refused, Unavailable
from registry.attributes import (
    Applied,
    Break,
    CatalogWatch,
    apply,
    load_catalog,
    load_version,
    promote,
    versions,
    wanted,
)
from registry.attributes.promotion import _LOCK

BASE: dict[str, Any] = {
    "x-subject": "individual",
    "type": "object",
    "properties": {
        "income": {"type": "integer", "x-rule": True},
        "roof": {"type": "string", "enum": ["thatch", "tile"]},
        "since": {"type": "string", "format": "date"},
    },
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    try:
        yield opened
    finally:
        await opened.close()


async def _person(connection: asyncpg.Connection, **attributes: Any) -> None:
    await connection.execute(
        "INSERT INTO registrant (id, source, attributes) VALUES ($1, 'test', $2::text::jsonb)",
        uuid4(), orjson.dumps(attributes).decode(),
    )  # fmt: skip


def _with(**properties: Any) -> dict[str, Any]:
    return BASE | {"properties": BASE["properties"] | properties}


async def test_a_schema_is_stored_once_and_the_same_again_changes_nothing(
    connection: asyncpg.Connection,
) -> None:
    first = await apply(connection, BASE, "user:ada")
    assert first == Applied("individual", 1, True, ("income is new", "roof is new", "since is new"), ())
    again = await apply(connection, BASE, "user:ada")
    assert (again.version, again.changed) == (1, False)
    second = await apply(connection, _with(rooms={"type": "integer"}), "user:bob")
    assert (second.version, second.changes) == (2, ("rooms is new",))
    listed = await versions(connection)
    assert [(one["version"], one["attributes"], one["actor"]) for one in listed] == [
        (2, 4, "user:bob"), (1, 3, "user:ada"),
    ]  # fmt: skip
    assert list((await load_catalog(connection)).declared("individual")) == [
        "income",
        "roof",
        "since",
        "rooms",
    ]
    assert list((await load_version(connection, "individual", 1)).attributes) == ["income", "roof", "since"]
    trail = await connection.fetch(
        "SELECT actor, object_id FROM audit_event WHERE action = 'attributes.apply'"
    )
    assert sorted(map(tuple, trail)) == [("user:ada", "individual"), ("user:bob", "individual")]


async def test_a_stored_version_never_changes(connection: asyncpg.Connection) -> None:
    await apply(connection, BASE, "user:ada")
    for statement in ("UPDATE attribute_schema SET actor = 'x'", "DELETE FROM attribute_schema"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(statement)


async def test_records_that_would_break_are_counted_before_anything_is_stored(
    connection: asyncpg.Connection,
) -> None:
    await apply(connection, BASE, "user:ada")
    for attributes in ({"income": 10}, {"income": 900, "roof": "tile"}, {"roof": "thatch"}, {"income": None}):
        await _person(connection, **attributes)
    tighter = _with(income={"type": "integer", "maximum": 100}, roof={"type": "string", "enum": ["tile"]}) | {
        "required": ["income"]
    }
    told = await apply(connection, tighter, "user:ada", dry_run=True)
    assert set(told.breaks) == {
        Break("income", "maximum", 1, True), Break("roof", "enum", 1, True), Break("income", "required", 2, True),
    }  # fmt: skip
    with pytest.raises(Refused) as caught:
        await apply(connection, tighter, "user:ada")
    assert caught.value.code == "attributes-incompatible"
    assert "roof: 1 records break enum" in caught.value.detail
    assert len(await versions(connection)) == 1
    assert (await apply(connection, tighter, "user:ada", force=True)).version == 2


async def test_a_type_that_makes_values_unreadable_is_refused_even_with_force(
    connection: asyncpg.Connection,
) -> None:
    await apply(connection, BASE, "user:ada")
    await _person(connection, roof="tile", since="2020-02-29")
    changed = _with(since={"type": "integer"})
    with pytest.raises(Refused, match="since: 1 records break type"):
        await apply(connection, changed, "user:ada", force=True)


async def test_taking_an_attribute_away_needs_force_and_leaves_its_values(
    connection: asyncpg.Connection,
) -> None:
    await apply(connection, BASE, "user:ada")
    await _person(connection, roof="tile")
    fewer = BASE | {"properties": {"income": {"type": "integer"}}}
    with pytest.raises(Refused, match="roof: 1 records break removed"):
        await apply(connection, fewer, "user:ada")
    assert (await apply(connection, fewer, "user:ada", force=True)).version == 2
    assert await connection.fetchval("SELECT count(*) FROM registrant WHERE attributes ? 'roof'") == 1


async def test_one_name_means_one_thing_among_a_registrants_attributes(
    connection: asyncpg.Connection,
) -> None:
    await apply(connection, BASE, "user:ada")
    clash = BASE | {"x-subject": "program:CASH", "x-registrant": "individual"}
    with pytest.raises(Refused, match="`income` is declared by individual"):
        await apply(connection, clash, "user:ada")
    assert (await apply(connection, clash | {"x-registrant": "group"}, "user:ada")).version == 1


async def test_two_who_apply_at_once_make_two_versions(
    database_url: str, connection: asyncpg.Connection
) -> None:
    other = await asyncpg.connect(database_url)
    try:
        done = await asyncio.gather(
            apply(connection, BASE, "user:ada"), apply(other, _with(rooms={"type": "integer"}), "user:bob")
        )
    finally:
        await other.close()
    assert sorted(one.version for one in done) == [1, 2]


async def test_a_promoted_attribute_gets_the_index_that_rules_use(connection: asyncpg.Connection) -> None:
    await apply(connection, BASE, "user:ada")
    catalog = await load_catalog(connection)
    (name,) = [one.index for one in wanted(catalog)]
    assert await promote(connection, catalog) == ([name], [])
    assert await promote(connection, catalog) == ([], [])
    await connection.execute("SET enable_seqscan = off")
    plan = await connection.fetch(
        "EXPLAIN SELECT 1 FROM registrant r WHERE r.kind = 'individual' AND attribute_integer(r.attributes->'income') = 5"
    )
    assert any(name in row[0] for row in plan)
    await apply(connection, _with(income={"type": "integer"}), "user:ada")
    assert await promote(connection, await load_catalog(connection)) == ([], [name])
    assert [one.attribute.name for one in wanted(catalog, [("individual", "roof")])] == ["income", "roof"]


async def test_an_index_left_half_made_is_made_anew(connection: asyncpg.Connection) -> None:
    await apply(connection, BASE, "user:ada")
    catalog = await load_catalog(connection)
    await promote(connection, catalog)
    await connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass",
        wanted(catalog)[0].index,
    )
    made, _ = await promote(connection, catalog)
    assert made == [wanted(catalog)[0].index]
    assert await connection.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = $1::text::regclass", made[0]
    )


async def test_two_never_make_indexes_at_once(database_url: str, connection: asyncpg.Connection) -> None:
    await apply(connection, BASE, "user:ada")
    other = await asyncpg.connect(database_url)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", _LOCK)
        with pytest.raises(Unavailable, match="Another process"):
            await promote(connection, await load_catalog(connection))
    finally:
        await other.close()


READ = (
    ("date", '"2024-02-29"', "2024-02-29"), ("date", '"2023-02-29"', None), ("date", '"2000-02-29"', "2000-02-29"),
    ("date", '"1900-02-29"', None), ("date", '"0000-01-01"', None), ("date", '"2023-04-31"', None),
    ("date", '"2023-12-31"', "2023-12-31"), ("date", '"2023-1-1"', None), ("date", "20230101", None),
    ("integer", "5.0", "5.0"), ("integer", "5.5", None), ("integer", '"5"', None), ("integer", "1e16", None),
    ("number", "5.50", "5.50"), ("number", "1e300", None), ("boolean", "true", "true"),
    ("boolean", '"true"', None), ("text", '"a"', "a"), ("text", "1", None), ("text", "null", None),
)  # fmt: skip


async def test_what_does_not_have_the_declared_form_reads_as_null(connection: asyncpg.Connection) -> None:
    for reads, value, expected in READ:
        found = await connection.fetchval(f"SELECT attribute_{reads}($1::text::jsonb)::text", value)
        assert found == expected, (reads, value)


async def test_codes_of_a_vocabulary_are_those_it_has_and_retired_ones_stay_readable(
    connection: asyncpg.Connection,
) -> None:
    schema = BASE | {"properties": {"crop": {"type": "string", "x-vocabulary": "urn:test:vocab:crop"}}}
    with pytest.raises(Refused, match="There is no vocabulary urn:test:vocab:crop"):
        await apply(connection, schema, "user:ada")
    await connection.execute("INSERT INTO vocabulary (namespace, names) VALUES ('urn:test:vocab:crop', '{}')")
    await connection.execute(
        "INSERT INTO vocabulary_code (namespace, code, names, active) VALUES "
        """('urn:test:vocab:crop', 'maize', '{"en": "Maize", "fr": "Maïs"}', true),"""
        """('urn:test:vocab:crop', 'hemp', '{"en": "Hemp"}', false)"""
    )
    await apply(connection, schema, "user:ada")
    catalog = await load_catalog(connection)
    crop = catalog.declared("individual")["crop"]
    assert (set(crop.codes or ()), crop.label("maize", ["fr"])) == ({"maize", "hemp"}, "Maïs")
    assert catalog.problems("individual", {"crop": "maize"}) == []
    assert [one.rule for one in catalog.problems("individual", {"crop": "hemp"})] == ["enum maize"]


async def test_attributes_applied_by_another_process_reach_a_running_one(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=2, max_size=4) as pool:
        watch = CatalogWatch(pool, poll=3600)
        declared = watch.declared
        running = asyncio.create_task(watch.run())
        try:
            await asyncio.wait_for(watch.watching.wait(), 30)
            assert declared == set()
            async with pool.acquire() as other:
                await apply(other, BASE, "user:ada")
                await apply(other, _with(rooms={"type": "integer"}), "user:ada")
            async with asyncio.timeout(30):
                while "rooms" not in declared:
                    await asyncio.sleep(0.01)
            assert declared == {"income", "roof", "since", "rooms"}
            assert watch.catalog.subjects["individual"].version == 2
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("turns", range(5))
async def test_a_watch_that_is_woken_while_it_is_cancelled_ends(database_url: str, turns: int) -> None:
    async with asyncpg.create_pool(database_url, min_size=2, max_size=2) as pool:
        watch = CatalogWatch(pool, poll=3600)
        running = asyncio.create_task(watch.run())
        await asyncio.wait_for(watch.watching.wait(), 30)
        watch._woken()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=10)
        ended = running.done()
        running.cancel()
        assert ended
