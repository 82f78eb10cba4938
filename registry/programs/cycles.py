"""Cycles: opened for days no other cycle has, on a snapshot; every move is made under the lock of the cycle's row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from dateutil.rrule import rrulestr

from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.program import Cycle as CanonicalCycle
from canonical_model.program import CycleStatus, ProgramStatus
from canonical_model.types import to_data
from registry.audit import AuditEvent, insert_many
from registry.jobs import JobStore
from registry.programs import work
from registry.programs.definition import Program, wrong_state
from registry.programs.refusals import Connection, not_found, one_row
from registry.programs.terms import Benefit, Managers, Schedule, read
from registry.storage.outbox import HUB_SOURCE, Outbox

CHANGED: Final = "org.openspp.cycle.changed.v1"
_FIELDS: Final = (
    "c.id, c.program_id, p.code AS program, p.target_type, c.sequence, c.start_date, c.end_date, c.state, c.work, c.terms, "
    "c.currency, c.fund_id, c.makers, c.round, c.steps, c.snapshot_at, c.prepared_at, c.beneficiaries, c.entitlements, "
    "c.total, c.largest, c.reserved, c.spent, c.voucher_key_id, c.voucher_key"
)
_STOPPABLE: Final = frozenset({"snapshot", "prepare", "distribute"})
_GET: Final = f"SELECT {_FIELDS} FROM cycle c JOIN program p ON p.id = c.program_id"


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle as it stands."""

    id: UUID
    program_id: UUID
    program: str
    target_type: str
    sequence: int
    start_date: date
    end_date: date
    state: CycleStatus
    work: str | None
    terms: Mapping[str, Any]
    currency: str
    fund_id: UUID | None
    makers: list[str]
    round: int
    steps: list[dict[str, Any]]
    snapshot_at: datetime | None
    prepared_at: datetime | None
    beneficiaries: int
    entitlements: int
    total: int
    largest: int
    reserved: int
    spent: int
    voucher_key_id: int | None
    voucher_key: bytes | None

    @property
    def benefit(self) -> Benefit:
        """What each beneficiary gets, as it was when the cycle was opened."""
        return read(Benefit, self.terms["benefit"], "The benefit")

    @property
    def managers(self) -> Managers:
        """Who does what, as it was when the cycle was opened."""
        return read(Managers, self.terms["managers"], "The managers")

    @property
    def name(self) -> str:
        """How people call it: program and number."""
        return f"{self.program}/{self.sequence}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "id": self.id, "program": self.program, "sequence": self.sequence, "start_date": self.start_date,
            "end_date": self.end_date, "state": self.state, "work": self.work, "currency": self.currency,
            "makers": self.makers, "round": self.round, "steps": self.steps, "snapshot_at": self.snapshot_at,
            "prepared_at": self.prepared_at, "beneficiaries": self.beneficiaries, "entitlements": self.entitlements,
            "total": self.total, "reserved": self.reserved, "spent": self.spent,
        }  # fmt: skip

    def message(self) -> Message:
        """Return the message that tells of its state."""
        said = CanonicalCycle(
            cycle_id=self.id.hex,
            program_id=self.program,
            sequence=self.sequence,
            start_date=self.start_date,
            end_date=self.end_date,
            status=self.state,
        )
        return Message(source=HUB_SOURCE, type=CHANGED, subject=f"cycle/{self.id}", data=to_data(said))


async def get(connection: Connection, cycle_id: UUID, *, lock: bool = False) -> Cycle:
    """Return a cycle, with `lock` holding its row until the transaction ends; raises `Refused` (`cycle-not-found`)."""
    row = await connection.fetchrow(
        f"{_GET} WHERE c.id = $1" + (" FOR NO KEY UPDATE OF c" if lock else ""), cycle_id
    )
    return _of(row)


async def named(connection: Connection, program: str, sequence: int) -> Cycle:
    """Return the cycle of this number; raises `Refused` (`cycle-not-found`)."""
    return _of(await connection.fetchrow(f"{_GET} WHERE p.code = $1 AND c.sequence = $2", program, sequence))


async def listed(
    connection: Connection, program: str | None, before: UUID | None = None, limit: int = 100
) -> list[Cycle]:
    """Return the newest cycles, of one program where given, with ids below `before`."""
    rows = await connection.fetch(
        f"{_GET} WHERE ($1::text IS NULL OR p.code = $1) AND ($2::uuid IS NULL OR c.id < $2) ORDER BY c.id DESC LIMIT $3",
        program,
        before,
        min(limit, 1000),
    )
    return [_of(row) for row in rows]


async def open_(
    jobs: JobStore,
    connection: Connection,
    program: Program,
    actor: str,
    outbox: Outbox,
    *,
    start: date | None,
    end: date | None,
) -> tuple[Cycle, UUID, bool]:
    """Open the cycle of these days, or the next of the schedule; return it, the job of its snapshot, and whether it is new.

    The same days asked for twice are one cycle. Raises `Refused`: `cycle-overlaps`, `program-state`, `schedule-over`.
    """
    # Whoever opens two at once is told apart here: the second finds the first.
    await connection.execute("SELECT 1 FROM program WHERE id = $1 FOR NO KEY UPDATE", program.id)
    if program.state is not ProgramStatus.ACTIVE:
        raise wrong_state(program, "open a cycle")
    last = await one_row(
        connection,
        "SELECT max(sequence) AS sequence, max(start_date) FILTER (WHERE state <> 'cancelled') AS start FROM cycle "
        "WHERE program_id = $1",
        program.id,
    )
    if start is None:
        start, end = following(program.schedule, last["start"])
    elif end is None:
        end = _end(program.schedule, start)
    same = await connection.fetchval(
        "SELECT id FROM cycle WHERE program_id = $1 AND start_date = $2 AND end_date = $3 AND state <> 'cancelled'",
        program.id,
        start,
        end,
    )
    if same is not None:
        found = await get(connection, same)
        job = await work.live(connection, "cycle.snapshot", "cycle", str(same))
        return found, job or await _last_job(connection, same), False
    if end < start:
        raise Refused(
            "A cycle ends on or after the day it starts. Nothing was opened.",
            code="cycle-dates",
            remedy="Exchange the two days.",
        )
    cycle_id = uuid7()
    await connection.execute(
        "INSERT INTO cycle (id, program_id, sequence, start_date, end_date, work, terms, currency, fund_id, makers) "
        "VALUES ($1, $2, $3, $4, $5, 'snapshot', $6, $7, $8, $9)",
        cycle_id,
        program.id,
        (last["sequence"] or 0) + 1,
        start,
        end,
        program.terms(),
        program.currency,
        program.fund_id,
        [actor],
    )
    found = await get(connection, cycle_id)
    await insert_many(connection, [AuditEvent(actor, "cycle.open", "cycle", str(cycle_id))])
    await outbox.write(connection, [found.message()])
    total = await connection.fetchval(
        "SELECT count(*) FROM enrollment WHERE program_id = $1 AND state = 'enrolled'", program.id
    )
    job = await work.submit(jobs, connection, "cycle.snapshot", actor, {"cycle": str(cycle_id)}, total)
    return found, job, True


async def _last_job(connection: Connection, cycle_id: UUID) -> UUID:
    found: UUID = await connection.fetchval(
        "SELECT id FROM job WHERE kind = 'cycle.snapshot' AND params ->> 'cycle' = $1 ORDER BY created_at DESC LIMIT 1",
        str(cycle_id),
    )
    return found


def following(schedule: Schedule, last: date | None) -> tuple[date, date]:
    """Return first and last day of the cycle after the one that began on `last`; raises `Refused` (`schedule-over`)."""
    if schedule.start is None or (schedule.rrule is None and last is not None):
        raise Refused(
            "The program's schedule has no further cycle. Nothing was opened.",
            code="schedule-over",
            remedy="Name the days (--from, --to), or give the program a schedule with a start and an RRULE.",
        )
    if schedule.rrule is None:
        return schedule.start, _end(schedule, schedule.start)
    begins = _next(schedule, last)
    if begins is None:
        return following(Schedule(), None)
    return begins, _end(schedule, begins)


def covering(schedule: Schedule, today: date, last: date | None) -> tuple[date, date] | None:
    """Return first and last day of the schedule's cycle in which a day lies; None where that began by `last` or is none."""
    if schedule.start is None or schedule.start > today:
        return None
    begins: date | None = schedule.start
    if schedule.rrule is not None:
        found = rrulestr(schedule.rrule, dtstart=_midnight(schedule.start)).before(_midnight(today), inc=True)
        begins = None if found is None else found.date()
    if begins is None or (last is not None and begins <= last):
        return None
    ends = _end(schedule, begins)
    return (begins, ends) if today <= ends else None


def _next(schedule: Schedule, after: date | None) -> date | None:
    assert schedule.start is not None  # a rule has one
    assert schedule.rrule is not None
    rule = rrulestr(schedule.rrule, dtstart=_midnight(schedule.start))
    found = rule.after(_midnight(schedule.start - timedelta(days=1) if after is None else after))
    return None if found is None else found.date()


def _midnight(day: date) -> datetime:
    # A rule of recurrence counts days here, which have no zone.
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001


def _end(schedule: Schedule, start: date) -> date:
    if schedule.days is not None:
        return start + timedelta(days=schedule.days - 1)
    if schedule.rrule is not None and (coming := _next(schedule, start)) is not None:
        return coming - timedelta(days=1)
    return start


async def begin(
    connection: Connection,
    cycle_id: UUID,
    doing: str,
    states: Collection[CycleStatus],
    actor: str,
    *,
    total: int | None = None,
    as_maker: bool = False,
) -> tuple[Cycle, UUID | None]:
    """Lock a cycle for a piece of work; return it and the job of the same work that is under way already, if any.

    Raises `Refused`: `cycle-busy` while other work goes on, `cycle-state` when it is in none of the states.
    """
    cycle = await get(connection, cycle_id, lock=True)
    running = (
        None
        if cycle.work is None
        else await work.live(connection, f"cycle.{cycle.work}", "cycle", str(cycle_id))
    )
    if running is not None and cycle.work == doing:
        return cycle, running
    # What only carries out a decision has to be gone on with, also where its job was lost.
    if cycle.work not in {None, doing} and (running is not None or cycle.work not in _STOPPABLE):
        raise Refused(
            f"Cycle {cycle.name} is busy with other work ({cycle.work}). Nothing was changed.",
            code="cycle-busy",
            remedy="Wait for it (`hub jobs list`), or ask for that work again, which goes on with it.",
        )
    if cycle.state not in states:
        raise Refused(
            f"Cycle {cycle.name} is {cycle.state.value}; this can be done when it is "
            f"{' or '.join(sorted(state.value for state in states))}. Nothing was changed.",
            code="cycle-state",
            remedy="`hub program cycle show` says what comes next.",
        )
    await connection.execute(
        "UPDATE cycle SET work = $2, makers = CASE WHEN $4 AND NOT $3 = ANY (makers) THEN makers || $3 ELSE makers END, "
        "version = version + 1, updated_at = now() WHERE id = $1",
        cycle_id,
        doing,
        actor,
        as_maker,
    )
    return cycle, None


async def start(
    jobs: JobStore,
    connection: Connection,
    cycle_id: UUID,
    doing: str,
    states: Collection[CycleStatus],
    actor: str,
    *,
    total: int | None = None,
    as_maker: bool = False,
) -> UUID:
    """Begin a piece of work as a job, or return the job of the same work that is under way; raises as `begin` does."""
    cycle, running = await begin(connection, cycle_id, doing, states, actor, as_maker=as_maker)
    if running is not None:
        return running
    amount = cycle.entitlements if total is None else total
    return await work.submit(jobs, connection, f"cycle.{doing}", actor, {"cycle": str(cycle_id)}, amount)


async def finish(
    connection: Connection,
    cycle_id: UUID,
    actor: str,
    outbox: Outbox,
    state: CycleStatus | None = None,
    **changes: Any,
) -> Cycle:
    """End a piece of work, with the state it leads to and other columns, and tell of a new state."""
    before = await get(connection, cycle_id, lock=True)
    columns = dict(changes)
    if state is not None and state is not before.state:
        columns["state"] = state.value
    places = "".join(f", {name} = ${number}" for number, name in enumerate(columns, 2))
    await connection.execute(
        f"UPDATE cycle SET work = NULL, version = version + 1, updated_at = now(){places} WHERE id = $1",
        cycle_id,
        *columns.values(),
    )
    after = await get(connection, cycle_id)
    if after.state is not before.state:
        await insert_many(
            connection,
            [
                AuditEvent(
                    actor,
                    f"cycle.{after.state.value}",
                    "cycle",
                    str(cycle_id),
                    details={"round": after.round},
                )
            ],
        )
        await outbox.write(connection, [after.message()])
    return after


async def stop(connection: Connection, cycle_id: UUID) -> None:
    """Leave a piece of work where it is, so that it or other work can begin anew."""
    await connection.execute("UPDATE cycle SET work = NULL, updated_at = now() WHERE id = $1", cycle_id)


def now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def _of(row: asyncpg.Record | None) -> Cycle:
    if row is None:
        raise not_found("cycle", "cycle-not-found", "`hub program cycle list` shows the cycles.")
    return Cycle(**{**dict(row), "state": CycleStatus(row["state"])})
