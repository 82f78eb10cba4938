"""What the database refuses of a program's work, in words; and transactions that say it so."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError, Refused
from registry.storage.database import database_errors

Connection = asyncpg.Connection | PoolConnectionProxy
CHUNK: Final = 100_000
"""Rows of one step."""
_MANY: Final = 50_000
WAIT: Final = 30.0
STEP_SECONDS: Final = 600.0
"""The longest a statement of a step may take; a step that needs more is undone and tried again."""


class _Said(NamedTuple):
    detail: str
    code: str
    remedy: str


_SAID: Final = {
    "fund_overdrawn": _Said(
        "The fund does not hold enough for this; nothing was reserved or spent.",
        "fund-overdrawn",
        "Deposit what is missing (`hub program fund deposit`), then try again.",
    ),
    "fund_deposited_check": _Said(
        "The fund holds less than what is to be withdrawn; nothing was moved.",
        "fund-overdrawn",
        "`hub program fund show` says what is available.",
    ),
    "cycle_apart": _Said(
        "Another cycle of this program covers some of these days; nothing was opened.",
        "cycle-overlaps",
        "Choose days no other cycle has, or cancel the other one.",
    ),
    "cycle_approval_not_the_maker": _Said(
        "Who opened, prepared or submitted a cycle cannot approve it; nothing was approved.",
        "approval-own",
        "Ask somebody else of the role.",
    ),
    "cycle_approval_one_each": _Said(
        "The same person cannot take two steps of one approval; nothing was approved.",
        "approval-twice",
        "Ask somebody else of the role of the next step.",
    ),
    "top_up_not_the_maker": _Said(
        "Who asked for a top-up cannot agree to it; nothing was changed.",
        "approval-own",
        "Ask somebody else.",
    ),
    "cycle_beneficiary_amounts_check": _Said(
        "A rule of the benefit gives an amount below zero for somebody; nothing of this step was kept.",
        "amount-negative",
        "Correct the amount rule of the program, cancel the cycle and open it again.",
    ),
    "program_fund_id_currency_fkey": _Said(
        "The fund is kept in another currency than the program; nothing was changed.",
        "currency-mixed",
        "Use a fund of the program's currency; the hub changes no money.",
    ),
    "cycle_fund_id_currency_fkey": _Said(
        "The fund is kept in another currency than the cycle; nothing was changed.",
        "currency-mixed",
        "Use a fund of the program's currency; the hub changes no money.",
    ),
}


def refused(error: asyncpg.PostgresError) -> Refused | None:
    """Return the refusal of what the database refused, None for what has no words here."""
    said = _SAID.get(getattr(error, "constraint_name", None) or "")
    if said is not None:
        return Refused(said.detail, code=said.code, remedy=said.remedy)
    if isinstance(error, asyncpg.NumericValueOutOfRangeError | asyncpg.DivisionByZeroError):
        return Refused(
            "A rule of the program cannot be computed for somebody (out of range, or divided by zero). This step was undone.",
            code="rule-failed",
            remedy="Correct the rule; `hub program preview` tries it without changing anything.",
        )
    return None


@contextlib.asynccontextmanager
async def transaction(pool: asyncpg.Pool, doing: str) -> AsyncIterator[PoolConnectionProxy]:
    """A transaction in which programs work; raises `Refused` in words, `Unavailable` when the database is away."""
    found: HubError | None = None
    try:
        async with (
            database_errors(doing),
            pool.acquire(timeout=WAIT) as connection,
            connection.transaction(),
        ):
            yield connection
    except asyncpg.PostgresError as error:
        found = refused(error)
        if found is None:
            raise
    if found is not None:
        raise found


async def know(connection: Connection, table: str, rows: int) -> None:
    """Have the server count a table anew after many rows came in: the next step plans with it before it would by itself."""
    if rows >= _MANY:
        await connection.execute(f"ANALYZE {table}", timeout=STEP_SECONDS)


async def one_row(
    connection: Connection, query: str, *args: object, within: float | None = None
) -> asyncpg.Record:
    """Return the one row of a query that always has one."""
    row = await connection.fetchrow(query, *args, timeout=within)
    assert row is not None  # a sum, a returned row, or one read under its lock just before
    return row


def not_found(what: str, code: str, hint: str) -> Refused:
    """Return the refusal of something that is not there."""
    return Refused(f"There is no such {what}. Nothing was changed.", code=code, remedy=hint)
