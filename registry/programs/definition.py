"""Programs as they are defined; a cycle keeps the terms it was opened with, so a change moves later ones only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.program import Program as CanonicalProgram
from canonical_model.program import ProgramStatus, TargetType
from canonical_model.types import to_data
from registry.audit import AuditEvent, insert_many
from registry.programs import funds
from registry.programs.refusals import Connection, not_found
from registry.programs.rules import RuleSource, Target
from registry.programs.terms import Benefit, Managers, ProgramTerms, Schedule, read
from registry.storage.outbox import HUB_SOURCE, Outbox

CHANGED: Final = "org.openspp.program.changed.v1"
_FIELDS: Final = (
    "p.id, p.code, p.names, p.target_type, p.state, p.currency, p.fund_id, f.code AS fund, p.eligibility, p.benefit, "
    "p.managers, p.schedule, p.version"
)
_UPSERT: Final = """
INSERT INTO program (id, code, names, target_type, currency, fund_id, eligibility, benefit, managers, schedule, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (code) DO UPDATE SET names = excluded.names, currency = excluded.currency, fund_id = excluded.fund_id,
    eligibility = excluded.eligibility, benefit = excluded.benefit, managers = excluded.managers,
    schedule = excluded.schedule, version = program.version + 1, actor = excluded.actor, updated_at = now()
WHERE program.target_type = excluded.target_type
    AND (program.names, program.currency, program.fund_id, program.eligibility, program.benefit, program.managers,
        program.schedule) IS DISTINCT FROM (excluded.names, excluded.currency, excluded.fund_id, excluded.eligibility,
        excluded.benefit, excluded.managers, excluded.schedule)
RETURNING version
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it stands."""

    id: UUID
    code: str
    names: Mapping[str, str]
    target_type: TargetType
    state: ProgramStatus
    currency: str
    fund_id: UUID | None
    fund: str | None
    eligibility: str
    benefit: Benefit
    managers: Managers
    schedule: Schedule
    version: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "id": self.id, "code": self.code, "names": self.names, "target_type": self.target_type,
            "state": self.state, "currency": self.currency, "fund": self.fund, "eligibility": self.eligibility,
            "benefit": self.benefit.model_dump(mode="json", exclude_none=True),
            "managers": self.managers.model_dump(mode="json", exclude_none=True),
            "schedule": self.schedule.model_dump(mode="json", exclude_none=True), "version": self.version,
        }  # fmt: skip

    def terms(self) -> dict[str, Any]:
        """Return what a cycle keeps."""
        return {
            "eligibility": self.eligibility,
            "benefit": self.benefit.model_dump(mode="json", exclude_none=True),
            "managers": self.managers.model_dump(mode="json", exclude_none=True),
            "program_version": self.version,
        }

    def message(self) -> Message:
        """Return the message that tells of its state."""
        said = CanonicalProgram(
            program_id=self.code,
            names=dict(self.names),
            target_type=self.target_type,
            status=self.state,
            currency=self.currency,
        )
        return Message(source=HUB_SOURCE, type=CHANGED, subject=f"program/{self.code}", data=to_data(said))


async def define(
    connection: Connection, terms: ProgramTerms, actor: str, rules: RuleSource, outbox: Outbox
) -> tuple[Program, bool]:
    """Make a program or change its terms; say whether anything changed.

    Every rule is compiled first, so that one that cannot be is refused here. Raises `Refused` also for a fund that is not
    there or of another currency (`fund-not-found`, `currency-mixed`), or another target type (`program-target-fixed`).
    """
    check_rules(terms, rules)
    fund = None if terms.fund is None else await funds.get(connection, terms.fund)
    changed = await connection.fetchval(
        _UPSERT,
        uuid7(),
        terms.code,
        dict(terms.names),
        terms.target_type.value,
        terms.currency,
        None if fund is None else fund.id,
        terms.eligibility,
        terms.benefit.model_dump(mode="json", exclude_none=True),
        terms.managers.model_dump(mode="json", exclude_none=True),
        terms.schedule.model_dump(mode="json", exclude_none=True),
        actor,
    )
    program = await get(connection, terms.code)
    if program.target_type is not terms.target_type:
        raise Refused(
            f"Program {terms.code} enrolls {program.target_type.value}s, which cannot be changed. Nothing was changed.",
            code="program-target-fixed",
            remedy="Define another program.",
        )
    if changed is not None:
        await insert_many(
            connection,
            [
                AuditEvent(
                    actor, "program.define", "program", str(program.id), details={"version": program.version}
                )
            ],
        )
        await outbox.write(connection, [program.message()])
    return program, changed is not None


def check_rules(terms: ProgramTerms, rules: RuleSource, today: date | None = None) -> None:
    """Compile every rule of the terms; raises `Refused` with the place in the text for one that cannot be."""
    day = today or datetime.now(UTC).date()
    target: Target = "group" if terms.target_type is TargetType.GROUP else "individual"
    conditions = [
        terms.eligibility,
        *(one.condition for one in terms.benefit.amounts),
        *(one.condition for one in terms.benefit.items),
    ]
    for text in conditions:
        if text is not None:
            rules(text, target=target, result="condition", as_of=day, program=terms.code)
    for term in terms.benefit.amounts:
        rules(term.amount, target=target, result="amount", as_of=day, program=terms.code)


async def get(connection: Connection, code: str, *, lock: bool = False) -> Program:
    """Return a program by its code; raises `Refused` (`program-not-found`)."""
    row = await connection.fetchrow(
        f"SELECT {_FIELDS} FROM program p LEFT JOIN fund f ON f.id = p.fund_id WHERE p.code = $1"
        + (" FOR NO KEY UPDATE OF p" if lock else ""),
        code,
    )
    if row is None:
        raise not_found("program", "program-not-found", "`hub program list` shows the programs.")
    return _of(row)


async def listed(connection: Connection, after: str = "", limit: int = 100) -> list[Program]:
    """Return programs by code, behind `after`."""
    rows = await connection.fetch(
        f"SELECT {_FIELDS} FROM program p LEFT JOIN fund f ON f.id = p.fund_id WHERE p.code > $1 ORDER BY p.code LIMIT $2",
        after,
        min(limit, 1000),
    )
    return [_of(row) for row in rows]


async def set_state(
    connection: Connection, code: str, state: ProgramStatus, actor: str, outbox: Outbox
) -> Program:
    """Activate, pause or end a program; one that has the state stays as it is. Raises `Refused` (`program-state`)."""
    program = await get(connection, code, lock=True)
    if program.state is state:
        return program
    allowed = {
        ProgramStatus.DRAFT: {ProgramStatus.ACTIVE, ProgramStatus.ENDED},
        ProgramStatus.ACTIVE: {ProgramStatus.PAUSED, ProgramStatus.ENDED},
        ProgramStatus.PAUSED: {ProgramStatus.ACTIVE, ProgramStatus.ENDED},
    }.get(program.state, set())
    if state not in allowed:
        raise wrong_state(program, f"become {state.value}")
    await connection.execute(
        "UPDATE program SET state = $2, updated_at = now() WHERE id = $1", program.id, state.value
    )
    await insert_many(connection, [AuditEvent(actor, f"program.{state.value}", "program", str(program.id))])
    program = await get(connection, code)
    await outbox.write(connection, [program.message()])
    return program


def wrong_state(program: Program, doing: str) -> Refused:
    """Return the refusal of what a program in this state cannot do."""
    return Refused(
        f"Program {program.code} is {program.state.value} and cannot {doing}. Nothing was changed.",
        code="program-state",
        remedy="`hub program activate` starts a draft or paused program; an ended one stays ended.",
    )


def _of(row: asyncpg.Record) -> Program:
    return Program(
        **{
            **dict(row),
            "target_type": TargetType(row["target_type"]),
            "state": ProgramStatus(row["state"]),
            "benefit": read(Benefit, row["benefit"], "The benefit"),
            "managers": read(Managers, row["managers"], "The managers"),
            "schedule": read(Schedule, row["schedule"], "The schedule"),
        }
    )
