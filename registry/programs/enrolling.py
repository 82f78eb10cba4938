"""Who is in a program: previewed, enrolled by rule or by list, paused, resumed, exited; set-based throughout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from canonical_model.decision import DecisionSlot
from canonical_model.enrollment import Enrollment, EnrollmentStatus
from canonical_model.errors import Refused
from canonical_model.message import Message
from canonical_model.program import ProgramStatus, TargetType
from canonical_model.registrant import RegistrantRef
from canonical_model.types import to_data
from registry.audit import AuditEvent, insert_many
from registry.programs.decisions import ASKED, ask
from registry.programs.definition import Program, wrong_state
from registry.programs.refusals import CHUNK, STEP_SECONDS, Connection, know, one_row
from registry.programs.rules import Rules, RuleSource, Target, placed
from registry.programs.work import Position, Step
from registry.storage.outbox import HUB_SOURCE, Outbox

CHANGED: Final = "org.openspp.enrollment.changed.v1"
LIST_LIMIT: Final = 100_000
_TOLD_LIMIT: Final = 1000
_LAST: Final = UUID(int=2**128 - 1)
_FIRST: Final = UUID(int=0)
_PREVIEW: Final = """
WITH {tables}program_now AS (SELECT 1)
SELECT count(*) AS eligible, count(e.state) FILTER (WHERE e.state = 'enrolled') AS enrolled,
    count(*) FILTER (WHERE e.state IS NULL OR e.state = 'draft' OR (e.state = 'not_eligible' AND e.cause = 'rule')) AS new,
    count(*) FILTER (WHERE e.state IN ('paused', 'exited', 'duplicated') OR (e.state = 'not_eligible' AND e.cause = 'person'))
        AS left_alone
FROM registrant r {joins} LEFT JOIN enrollment e ON e.program_id = $1 AND e.registrant_id = r.id
WHERE r.kind = $2 AND r.status = 'active' AND ({rule})
"""
_ENROLL: Final = """
INSERT INTO enrollment (program_id, registrant_id, state, enrollment_date, cause, reason, actor)
SELECT $1, r.id, {state}, $5, 'rule', {reason}, $6 FROM registrant r
WHERE r.id > $2 AND r.id <= $3 AND r.kind = $4 AND r.status = 'active' AND {rule}
ORDER BY r.id
ON CONFLICT (program_id, registrant_id) DO UPDATE SET state = excluded.state, enrollment_date = excluded.enrollment_date,
    since = now(), cause = 'rule', reason = excluded.reason, actor = excluded.actor
WHERE enrollment.cause = 'rule' AND enrollment.state IN ('draft', 'not_eligible') AND enrollment.reason IS DISTINCT FROM 'asked'
"""
_ENROLL_LIST: Final = """
WITH asked AS (SELECT DISTINCT id FROM unnest($2::uuid[]) AS t (id)),
known AS (
    SELECT a.id, r.id IS NOT NULL AND r.kind = $3 AND r.status = 'active' AS fits FROM asked a LEFT JOIN registrant r USING (id)
), made AS (
    INSERT INTO enrollment (program_id, registrant_id, state, enrollment_date, cause, reason, actor)
    SELECT $1, id, 'enrolled', $4, 'person', $5, $6 FROM known WHERE fits ORDER BY id
    ON CONFLICT (program_id, registrant_id) DO UPDATE SET state = 'enrolled', enrollment_date = excluded.enrollment_date,
        exit_date = NULL, since = now(), cause = 'person', reason = excluded.reason, actor = excluded.actor
    WHERE enrollment.state NOT IN ('enrolled', 'paused')
    RETURNING registrant_id
)
SELECT (SELECT array_agg(registrant_id) FROM made) AS changed, count(*) FILTER (WHERE NOT fits) AS unfit FROM known
"""
_MOVE: Final = """
UPDATE enrollment SET state = $3, since = now(), cause = $4, reason = $5, actor = $6,
    exit_date = CASE WHEN $3 = 'exited' THEN $7::date END, enrollment_date = coalesce(enrollment_date, $7::date)
WHERE program_id = $1 AND registrant_id = ANY ($2) AND state = ANY ($8)
RETURNING registrant_id
"""
_TWICE: Final = """
WITH placed AS (
    SELECT e.registrant_id, e.state, {shared} AS shared,
        row_number() OVER (PARTITION BY {shared} ORDER BY e.enrollment_date, e.registrant_id) AS place,
        first_value(e.registrant_id) OVER (PARTITION BY {shared} ORDER BY e.enrollment_date, e.registrant_id) AS first
    FROM enrollment e JOIN membership m ON m.{own} = e.registrant_id AND m.start_date <= $2
        AND (m.ended_date IS NULL OR m.ended_date > $2)
    {join}
    WHERE e.program_id = $1 AND e.state IN ('enrolled', 'paused')
), later AS (SELECT DISTINCT registrant_id, first FROM placed WHERE place > 1)
UPDATE enrollment e SET state = 'duplicated', since = now(), cause = 'rule', reason = $3, actor = $4
FROM (SELECT DISTINCT registrant_id FROM later l WHERE first NOT IN (SELECT registrant_id FROM later)) d
WHERE e.program_id = $1 AND e.registrant_id = d.registrant_id AND e.state = 'enrolled'
"""
_ROUNDS: Final = 100


@dataclass(frozen=True, slots=True)
class Move:
    """One change of an enrollment by a person: from which states to which."""

    to: EnrollmentStatus
    of: tuple[str, ...]


PAUSE: Final = Move(EnrollmentStatus.PAUSED, ("enrolled",))
RESUME: Final = Move(EnrollmentStatus.ENROLLED, ("paused",))
EXIT: Final = Move(EnrollmentStatus.EXITED, ("draft", "enrolled", "paused", "not_eligible", "duplicated"))


async def preview(
    connection: Connection, program: Program, rules: RuleSource, today: date | None = None
) -> dict[str, int]:
    """Return how many are eligible now, of whom how many are new, enrolled already, or left alone as a person decided."""
    rule = rules(
        program.eligibility,
        target=_target(program),
        result="condition",
        as_of=today or _today(),
        program=program.code,
    )
    tables, joins, expression, args = rule.joined(3)
    text = _PREVIEW.format(tables=tables, joins=joins, rule=expression)
    # Not fetchrow: asking for one row keeps the server from working in parallel.
    (row,) = await connection.fetch(text, program.id, program.target_type.value, *args, timeout=STEP_SECONDS)
    return dict(row)


def by_rule(
    program: Callable[[Connection], Any], rules: Rules, actor: str, outbox: Outbox, *, chunk: int = CHUNK
) -> Step:
    """Return the step that enrolls everybody eligible, a range of registrants at a time, and then looks for duplicates.

    What a person decided (paused, exited, refused) stays; whoever is enrolled already stays as they are.
    """

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        found: Program = await program(connection)
        if found.state is not ProgramStatus.ACTIVE:
            raise wrong_state(found, "enroll")
        day = date.fromisoformat(position["day"]) if "day" in position else _today()
        if "enrolled" in position and position.get("last"):
            return await _deduplicated(connection, found, position, day, actor, outbox)
        after = UUID(position["after"]) if "after" in position else _FIRST
        upto = await connection.fetchval(
            "SELECT id FROM registrant WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1", after, chunk - 1
        )
        args: list[Any] = [found.id, after, upto or _LAST, found.target_type.value, day, actor]
        how = (
            {"state": "'enrolled'", "reason": "'eligible'"}
            if found.managers.eligibility.route is None
            else {"state": "'draft'", "reason": f"'{ASKED}'"}
        )
        source = await rules(connection)
        rule = source(
            found.eligibility, target=_target(found), result="condition", as_of=day, program=found.code
        )
        done = await connection.execute(
            _ENROLL.format(rule=placed(rule, args), **how), *args, timeout=STEP_SECONDS
        )
        enrolled = position.get("enrolled", 0) + int(done.split()[-1])
        going = {
            "day": day.isoformat(), "after": str(upto or _LAST), "enrolled": enrolled,
            "count": enrolled, "last": upto is None,
        }  # fmt: skip
        if upto is None:
            await know(connection, "enrollment", enrolled)
            return await _deduplicated(connection, found, going, day, actor, outbox)
        return going, False

    return step


async def _deduplicated(
    connection: Connection, program: Program, position: Position, day: date, actor: str, outbox: Outbox
) -> tuple[Position, bool]:
    managers, found = program.managers, position["enrolled"]
    if managers.eligibility.route is not None:
        asked = await ask(
            connection,
            DecisionSlot.ELIGIBILITY,
            managers.eligibility.route,
            program.id,
            program.code,
            found,
            outbox,
        )
        return {
            **position,
            "result": {"asked": found, "decision": None if asked is None else str(asked)},
        }, True
    if managers.deduplication.route is not None:
        number = await connection.fetchval(
            "SELECT count(*) FROM enrollment WHERE program_id = $1 AND state = 'enrolled'", program.id
        )
        route = managers.deduplication.route
        await ask(connection, DecisionSlot.DEDUPLICATION, route, program.id, program.code, number, outbox)
        return {**position, "result": {"enrolled": found, "asked": number}}, True
    twice = await deduplicate(connection, program, day, actor)
    return {**position, "result": {"enrolled": found - twice, "duplicated": twice}}, True


async def deduplicate(connection: Connection, program: Program, day: date, actor: str) -> int:
    """Mark as duplicated who shares a member, or a household, with somebody enrolled before them; return how many."""
    kind = program.managers.deduplication.builtin
    if kind is None or kind == "none":
        return 0
    if program.target_type is TargetType.GROUP:
        text = _TWICE.format(shared="m.member_id", own="group_id", join="")
    else:
        household = "JOIN registrant g ON g.id = m.group_id AND g.group_kind = 'household'"
        text = _TWICE.format(shared="m.group_id", own="member_id", join=household)
    total = 0
    # One that goes out may have been the only one in the way of another, so it is looked again until nothing changes.
    for _ in range(_ROUNDS):
        done = await connection.execute(text, program.id, day, kind, actor, timeout=STEP_SECONDS)
        moved = int(done.split()[-1])
        total += moved
        if not moved:
            break
    return total


async def by_list(
    connection: Connection,
    program: Program,
    ids: Sequence[UUID],
    actor: str,
    outbox: Outbox,
    *,
    reason: str | None,
) -> dict[str, int]:
    """Enroll the registrants of a list, whatever the rule says; a pause stays a pause.

    Returns `enrolled`, `unchanged` (enrolled or paused already) and `unfit` (not there, of the other kind, or not active).
    """
    if program.state is not ProgramStatus.ACTIVE:
        raise wrong_state(program, "enroll")
    _bounded(ids)
    row = await one_row(
        connection,
        _ENROLL_LIST,
        program.id,
        list(ids),
        program.target_type.value,
        _today(),
        reason,
        actor,
        within=STEP_SECONDS,
    )
    changed = row["changed"] or []
    await _told(connection, program, changed, EnrollmentStatus.ENROLLED, "enroll", actor, outbox, reason)
    return {
        "enrolled": len(changed), "unfit": row["unfit"], "unchanged": len(set(ids)) - len(changed) - row["unfit"],
    }  # fmt: skip


async def move(
    connection: Connection,
    program: Program,
    ids: Sequence[UUID],
    to: Move,
    actor: str,
    outbox: Outbox,
    *,
    reason: str | None,
) -> dict[str, int]:
    """Pause, resume or exit the enrollments of a list; return how many moved and how many were not in a state to."""
    if program.state is ProgramStatus.ENDED:
        raise wrong_state(program, "change enrollments")
    _bounded(ids)
    rows = await connection.fetch(
        _MOVE,
        program.id,
        list(ids),
        to.to.value,
        "person",
        reason,
        actor,
        _today(),
        list(to.of),
        timeout=STEP_SECONDS,
    )
    await _told(connection, program, [row[0] for row in rows], to.to, to.to.value, actor, outbox, reason)
    return {to.to.value: len(rows), "unchanged": len(set(ids)) - len(rows)}


async def place(connection: Connection, program: Program, registrant_id: UUID) -> list[dict[str, Any]]:
    """Return the states a registrant has had in a program, the present one last; empty when it was never in it."""
    rows = await connection.fetch(
        "SELECT state, since, until, cause, reason, actor FROM enrollment_past WHERE program_id = $1 AND registrant_id = $2 "
        "UNION ALL SELECT state, since, NULL, cause, reason, actor FROM enrollment WHERE program_id = $1 AND registrant_id = $2 "
        "ORDER BY since, until NULLS LAST LIMIT 1000",
        program.id,
        registrant_id,
    )
    return [dict(row) for row in rows]


async def counts(connection: Connection, program: Program) -> dict[str, int]:
    """Return how many enrollments a program has in each state."""
    rows = await connection.fetch(
        "SELECT state, count(*) AS number FROM enrollment WHERE program_id = $1 GROUP BY state ORDER BY state",
        program.id,
    )
    return {row["state"]: row["number"] for row in rows}


async def _told(
    connection: Connection,
    program: Program,
    changed: Sequence[UUID],
    state: EnrollmentStatus,
    action: str,
    actor: str,
    outbox: Outbox,
    reason: str | None,
) -> None:
    if not changed:
        return
    details = {"changed": len(changed)}
    events = [AuditEvent(actor, f"enrollment.{action}", "program", str(program.id), details=details)]
    if len(changed) <= _TOLD_LIMIT:
        each = {"program": str(program.id)}
        events += [
            AuditEvent(actor, f"enrollment.{action}", "registrant", str(one), details=each) for one in changed
        ]
    await insert_many(connection, events)
    notification = program.managers.notification
    if notification.builtin == "people" or notification.route is not None:
        for start in range(0, len(changed), _TOLD_LIMIT):
            part = changed[start : start + _TOLD_LIMIT]
            messages = [_message(program, one, state, reason) for one in part]
            await outbox.write(connection, messages, route=notification.route)


def _message(program: Program, registrant_id: UUID, state: EnrollmentStatus, reason: str | None) -> Message:
    said = Enrollment(
        program_id=program.code,
        registrant=RegistrantRef(target_type=program.target_type, registrant_id=registrant_id),
        status=state,
        reason=reason,
        changed_at=datetime.now(UTC),
    )
    return Message(source=HUB_SOURCE, type=CHANGED, subject=f"registrant/{registrant_id}", data=to_data(said))


def _bounded(ids: Sequence[UUID]) -> None:
    if not 0 < len(ids) <= LIST_LIMIT:
        raise Refused(
            f"A list has 1 to {LIST_LIMIT:,} ids; this one has {len(ids):,}. Nothing was changed.",
            code="list-length",
            remedy="Cut the list into parts, or enroll by the program's rule.",
        )


def _today() -> date:
    return datetime.now(UTC).date()


def _target(program: Program) -> Target:
    return "group" if program.target_type is TargetType.GROUP else "individual"
