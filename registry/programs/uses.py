"""Which attributes the rules of programs read, so that these get indexes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import date
from typing import Any, Final, cast

import asyncpg

from canonical_model.errors import ConfigError
from canonical_model.program import TargetType
from registry.attributes import Catalog, Document, Kind, apply, load_catalog, promote
from registry.jobs import JobContext
from registry.programs.definition import listed
from registry.programs.refusals import Connection
from registry.rules import Result, RuleRefused, compile_rule

APPLY: Final = "attributes.apply"
"""The kind of the job that applies a schema; params: `document`, `force`."""
_PROGRAMS: Final = 1000
_ANY_DAY: Final = date(2000, 1, 1)  # what a rule reads does not hang on the day


async def attributes_used(connection: Connection, catalog: Catalog) -> set[tuple[Kind, str]]:
    """Return the attributes that the rules of programs read; a rule the new schema refuses is told when it is next used."""
    used: set[tuple[Kind, str]] = set()
    after = ""
    while found := await listed(connection, after, _PROGRAMS):
        for program in found:
            target: Kind = "group" if program.target_type is TargetType.GROUP else "individual"
            texts: list[tuple[str | None, str]] = [(program.eligibility, "condition")]
            texts += [(one.condition, "condition") for one in program.benefit.amounts]
            texts += [(one.condition, "condition") for one in program.benefit.items]
            texts += [(one.amount, "amount") for one in program.benefit.amounts]
            for text, result in texts:
                with suppress(RuleRefused):
                    if text is not None:
                        rule = compile_rule(
                            text, catalog, target=target, result=cast("Result", result), as_of=_ANY_DAY,
                            program=program.code,
                        )  # fmt: skip
                        used |= rule.used
        after = found[-1].code
    return used


async def apply_attributes(context: JobContext) -> dict[str, Any]:
    """Make a schema the one in force and its indexes; the handler of `APPLY`, which repeats to the same end."""
    document: Document = context.params["document"]
    try:
        async with context.pool.acquire() as connection:
            done = await apply(connection, document, context.actor, force=bool(context.params.get("force")))
            catalog = await load_catalog(connection)
            made, dropped = await promote(connection, catalog, await attributes_used(connection, catalog))
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            "The schema is in force, but the database user of the hub may not make indexes.",
            code="database-privileges",
            remedy="Run `hub attributes apply` with the same schema as the owner of the tables.",
        ) from error
    return asdict(done) | {"indexes_made": made, "indexes_dropped": dropped}
