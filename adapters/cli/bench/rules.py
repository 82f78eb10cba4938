"""`hub bench rules`: how long a rule takes over the whole registry, beside the same question in SQL written by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from adapters.cli.bench.scratch import drop_database, fresh_database
from canonical_model.errors import Unavailable
from registry.attributes import Catalog, Kind, parse
from registry.rules import compile_rule, load_facts, preview
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool

GOAL_SECONDS: Final = 2.0
ROUNDS: Final = 5
_AS_OF: Final = date(2026, 1, 1)
_CHUNK: Final = 200_000
_SCHEMAS: Final = (
    {
        "x-subject": "individual",
        "type": "object",
        "properties": {"income": {"type": "integer"}, "disabled": {"type": "boolean"}},
    },
    {
        "x-subject": "group",
        "type": "object",
        "properties": {"income": {"type": "integer"}, "roof": {"type": "string", "enum": ["thatch", "tile"]}},
    },
)
_AREAS: Final = """
INSERT INTO area (id, code, parent_id, path, level, names)
SELECT 1, 'XX', NULL, '{1}'::integer[], 0, '{}'::jsonb UNION ALL
SELECT 1 + n, 'XX' || lpad(n::text, 3, '0'), 1, ARRAY[1, 1 + n], 1, '{}' FROM generate_series(1, 200) n
"""
# Households of four; ids spread as if they were registered over years and not in the order of their households.
_GROUPS: Final = """
INSERT INTO registrant (id, kind, group_kind, area_id, attributes, source)
SELECT md5('group ' || n)::uuid, 'group', 'household', 2 + n % 200, jsonb_build_object('income', (n * 7919::bigint) % 20000,
    'roof', CASE WHEN n % 3 = 0 THEN 'thatch' ELSE 'tile' END), 'bench' FROM generate_series($1::integer, $2::integer) n
"""
_PEOPLE: Final = """
INSERT INTO registrant (id, sex, birthdate, area_id, attributes, source)
SELECT md5('person ' || n)::uuid, CASE WHEN n % 2 = 0 THEN 'female' ELSE 'male' END,
    DATE '1940-01-01' + ((n * 104729::bigint) % 31000)::integer, 2 + (n / 4) % 200,
    jsonb_build_object('income', (n * 7919::bigint) % 20000, 'disabled', n % 17 = 0), 'bench'
FROM generate_series($1::integer, $2::integer) n
"""
_MEMBERSHIPS: Final = """
INSERT INTO membership (id, group_id, member_id, start_date, source)
SELECT gen_random_uuid(), md5('group ' || n / 4)::uuid, md5('person ' || n)::uuid, DATE '2020-01-01', 'bench'
FROM generate_series($1::integer, $2::integer) n
"""
_ACTIVE: Final = "start_date <= DATE '2026-01-01' AND (ended_date IS NULL OR ended_date > DATE '2026-01-01')"


@dataclass(frozen=True, slots=True)
class Case:
    """One question: as a rule, and as somebody who knows the tables would write it."""

    name: str
    target: Kind
    rule: str
    bare: str


CASES: Final = (
    Case(
        "attribute", "individual", "r.income < 5000 && age_years(r.birthdate) >= 60",
        "SELECT count(*) FROM registrant WHERE kind = 'individual' AND status = 'active' "
        "AND (attributes->>'income')::integer < 5000 AND birthdate <= DATE '1966-01-01'",
    ),
    Case(
        "household_count", "group", "members.count(m, age_years(m.birthdate) < 18) >= 2",
        "SELECT count(*) FROM registrant r JOIN (SELECT group_id, count(*) FILTER (WHERE birthdate > DATE '2008-01-01') AS number "
        f"FROM membership JOIN registrant m ON m.id = member_id AND m.status = 'active' WHERE {_ACTIVE} GROUP BY group_id) g "
        "ON g.group_id = r.id WHERE r.kind = 'group' AND r.status = 'active' AND g.number >= 2",
    ),
    Case(
        "household_average", "group", "members.avg(m, m.income, age_years(m.birthdate) >= 18) < 8000 && in_area('XX003')",
        "SELECT count(*) FROM registrant r JOIN (SELECT group_id, avg((m.attributes->>'income')::integer) "
        "FILTER (WHERE birthdate <= DATE '2008-01-01') AS average "
        f"FROM membership JOIN registrant m ON m.id = member_id AND m.status = 'active' WHERE {_ACTIVE} GROUP BY group_id) g "
        "ON g.group_id = r.id JOIN area a ON a.id = r.area_id WHERE r.kind = 'group' AND r.status = 'active' "
        "AND g.average < 8000 AND a.path @> ARRAY(SELECT id FROM area WHERE code = 'XX003')",
    ),
    Case(
        "person_in_household", "individual",
        "household.members.count(m, age_years(m.birthdate) < 18) >= 2 && age_years(r.birthdate) >= 60",
        "SELECT count(*) FROM registrant r JOIN membership h ON h.member_id = r.id "
        "JOIN (SELECT group_id, count(*) FILTER (WHERE birthdate > DATE '2008-01-01') AS number "
        f"FROM membership JOIN registrant m ON m.id = member_id AND m.status = 'active' WHERE {_ACTIVE} GROUP BY group_id) g "
        "ON g.group_id = h.group_id WHERE r.kind = 'individual' AND r.status = 'active' AND g.number >= 2 "
        "AND r.birthdate <= DATE '1966-01-01' AND h.start_date <= DATE '2026-01-01' AND h.ended_date IS NULL",
    ),
)  # fmt: skip


@dataclass(slots=True)
class Figures:
    """What one run measured: seconds of the rule and of the SQL by hand, best of some rounds, and whom both found."""

    people: int
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    found: dict[str, tuple[int, int]] = field(default_factory=dict)
    explain_ms: float = 0.0
    fill_seconds: float = 0.0


async def measure(database: str, people: int, say: Callable[[str], None]) -> Figures:
    """Fill a database of its own with so many registrants, a fifth of them households; ask, and drop it again."""
    name = f"hub_bench_rules_{os.getpid()}"
    url = await fresh_database(database, name)
    try:
        await migrate.upgrade_async(url)
        pool = await open_pool(HubSettings(), url=url, size=2)
        try:
            figures = Figures(people)
            async with pool.acquire() as connection:
                started = time.perf_counter()
                await _fill(connection, people, say)
                figures.fill_seconds = time.perf_counter() - started
                catalog = Catalog.of(parse(one, 1) for one in _SCHEMAS)
                for case in CASES:
                    say(f"asking {case.name}")
                    await _ask(connection, catalog, case, figures)
                figures.explain_ms = await _explain(connection, catalog)
            return figures
        finally:
            await pool.close()
    finally:
        await drop_database(database, name)


async def _fill(connection: Any, people: int, say: Callable[[str], None]) -> None:
    groups = people // 5
    await connection.execute(_AREAS)
    # What the trigger holds apart is apart by construction here, and it is not what is measured.
    await connection.execute("ALTER TABLE membership DISABLE TRIGGER USER")
    for what, statement, first, last in (
        ("households", _GROUPS, 0, groups - 1),
        ("people", _PEOPLE, 0, 4 * groups - 1),
        ("memberships", _MEMBERSHIPS, 0, 4 * groups - 1),
    ):
        say(f"filling in {last + 1:,} {what}")
        for place in range(first, last + 1, _CHUNK):
            await connection.execute(statement, place, min(place + _CHUNK - 1, last), timeout=600)
    await connection.execute("ALTER TABLE membership ENABLE TRIGGER USER")
    for table in ("registrant", "membership", "area"):
        await connection.execute(f"VACUUM ANALYZE {table}", timeout=600)


async def _ask(connection: Any, catalog: Catalog, case: Case, figures: Figures) -> None:
    rule = compile_rule(case.rule, catalog, target=case.target, as_of=_AS_OF)
    bare, ours = [], []
    for _ in range(ROUNDS):
        # In turn, so that what else the machine does hits both alike.
        bare.append(await _timed(lambda: _bare(connection, case.bare)))
        ours.append(await _timed(lambda: preview(connection, rule, seconds=600)))
    figures.seconds[case.name] = (min(one[0] for one in ours), min(one[0] for one in bare))
    figures.found[case.name] = (ours[0][1].matched, bare[0][1])
    if ours[0][1].matched != bare[0][1]:
        raise Unavailable(
            f"The rule and the SQL by hand disagree on {case.name}: {ours[0][1].matched} and {bare[0][1]}.",
            code="bench-failed",
            remedy="Run it again; if they still disagree, the figures mean nothing and this is a fault of the hub.",
        )


async def _timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = await work()
    return time.perf_counter() - started, found


async def _bare(connection: Any, statement: str) -> int:
    async with connection.transaction(readonly=True):
        await connection.execute("SET LOCAL work_mem = '128MB'")
        (row,) = await connection.fetch(statement, timeout=600)
        return int(row[0])


async def _explain(connection: asyncpg.Connection | PoolConnectionProxy, catalog: Catalog) -> float:
    """Return the milliseconds of one explanation, its query included, over some households."""
    rule = compile_rule(CASES[1].rule, catalog, target="group", as_of=_AS_OF)
    ids = [
        row["id"]
        for row in await connection.fetch("SELECT id FROM registrant WHERE kind = 'group' LIMIT 200")
    ]
    started = time.perf_counter()
    for one in ids:
        rule.explain(await load_facts(connection, one, _AS_OF), ["fr"])
    return (time.perf_counter() - started) * 1000 / max(1, len(ids))


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the results as rows of the common document, made by `row`."""
    for name, (ours, bare) in figures.seconds.items():
        yield row(f"raw.{name}", bare, "s")
        yield row(f"preview.{name}", ours, "s", bare, GOAL_SECONDS if figures.people >= 1_000_000 else None)
        yield row(f"found.{name}", figures.found[name][0], "registrants", figures.found[name][1])
    yield row("explain", figures.explain_ms, "ms")
    yield row("fill", figures.people / figures.fill_seconds, "registrants/s")
