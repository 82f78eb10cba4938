"""How many a rule would take, and how much it would give, before anything is done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Unavailable
from registry.rules.rule import Rule
from registry.rules.source import RuleRefused, Span
from registry.rules.tree import InArea, walk

Connection = asyncpg.Connection | PoolConnectionProxy
SECONDS: Final = 60.0
"""How long a preview may take when nothing else is said."""
_SETTINGS: Final = (
    # Every member is hashed once; with the default of 4 MB the tables of a million would go through the disk.
    "SET LOCAL work_mem = '128MB'",
    # A plan made for these very values: the pool's generic one would guess.
    "SET LOCAL plan_cache_mode = force_custom_plan",
    # A handful of counts with two workers, not one per core of a large server.
    "SET LOCAL max_parallel_workers_per_gather = 2",
    # A group for every household makes the planner fear for what workers hand over; measured a quarter faster so.
    "SET LOCAL parallel_tuple_cost = 0.02",
    "SET LOCAL parallel_setup_cost = 100",
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would do today."""

    registrants: int
    """Active registrants of the target's kind."""
    matched: int
    """Those it takes, or gives an amount to."""
    unknown: int
    """Those it leaves out because something of them is not known."""
    total: int | None
    """The sum of all amounts in minor units; None for a condition."""
    sample: tuple[UUID, ...]
    """Some of those it takes."""
    seconds: float


async def preview(
    connection: Connection, rule: Rule, *, sample: int = 0, seconds: float = SECONDS
) -> Preview:
    """Count over the whole registry with one statement; raises `Unavailable` `rule-too-slow` after `seconds`.

    Raises `RuleRefused` `rule-name-unknown` for an area that there is not.
    """
    await check_areas(connection, rule)
    joined = rule.joined(2)
    condition = rule.result == "condition"
    total = "NULL::bigint" if condition else "sum(value * number)::bigint"
    taken = "value" if condition else "value IS NOT NULL"
    # Grouped by the value, so that it is computed once for each.
    statement = f"""
        WITH {joined.tables}rule_result AS (
            SELECT {joined.expression} AS value, count(*) AS number FROM registrant r {joined.joins}
            WHERE r.kind = $1 AND r.status = 'active' GROUP BY 1)
        SELECT coalesce(sum(number), 0)::bigint AS registrants,
            coalesce(sum(number) FILTER (WHERE {taken}), 0)::bigint AS matched,
            coalesce(sum(number) FILTER (WHERE value IS NULL), 0)::bigint AS unknown, {total} AS total
        FROM rule_result"""
    started = time.perf_counter()
    try:
        async with connection.transaction(readonly=True):
            for setting in _SETTINGS:
                await connection.execute(setting)
            # Not fetchrow: asking for one row keeps the server from working in parallel.
            (row,) = await connection.fetch(statement, rule.target, *joined.arguments, timeout=seconds)
            ids = await _sample(connection, rule, sample, seconds) if sample else ()
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise Unavailable(
            f"The preview did not end within {seconds:g} seconds and was stopped. Nothing was changed.",
            code="rule-too-slow",
            remedy="Give it more time, or mark the attributes it compares with x-rule: true.",
        ) from error
    return Preview(
        row["registrants"], row["matched"], row["unknown"], row["total"], ids, time.perf_counter() - started
    )


async def _sample(connection: Connection, rule: Rule, most: int, seconds: float) -> tuple[UUID, ...]:
    joined = rule.joined(3)
    wanted = joined.expression if rule.result == "condition" else f"{joined.expression} IS NOT NULL"
    rows = await connection.fetch(
        f"WITH {joined.tables}nothing AS (SELECT 1) SELECT r.id FROM registrant r {joined.joins} "
        f"WHERE r.kind = $1 AND r.status = 'active' AND {wanted} LIMIT $2",
        rule.target, most, *joined.arguments, timeout=seconds,
    )  # fmt: skip
    return tuple(row["id"] for row in rows)


async def check_areas(connection: Connection, rule: Rule) -> None:
    """Hold the areas a rule names to those there are; raises `RuleRefused` `rule-name-unknown` with its place."""
    codes = sorted(rule.areas)
    if not codes:
        return
    known = {
        row["code"]
        for row in await connection.fetch("SELECT code FROM area WHERE code = ANY ($1::text[])", codes)
    }
    for node in walk(rule.node):
        if isinstance(node, InArea) and node.code not in known:
            raise await _unknown_area(connection, rule, node.code, node.span)


async def _unknown_area(connection: Connection, rule: Rule, code: str, span: Span) -> RuleRefused:
    # The longest code that begins like it tells a digit too many from a name misspelt.
    rows = await connection.fetch(
        "SELECT code FROM area WHERE starts_with(code, $1) ORDER BY code LIMIT 1000", code[:2]
    )
    near = get_close_matches(code, [row["code"] for row in rows], 1)
    remedy = f"Did you mean `{near[0]}`?" if near else "Use the code (P-code) of an area that was loaded."
    return rule.source.wrong(span, f"there is no area `{code[:60]}`", code="rule-name-unknown", remedy=remedy)
