"""The snapshot of a cycle and the entitlements made of it; nothing of them follows the registry afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from canonical_model.decision import DecisionSlot
from canonical_model.entitlement import BenefitKind
from canonical_model.errors import Refused
from canonical_model.message import uuid7
from canonical_model.program import CycleStatus, TargetType
from registry.programs import cycles
from registry.programs.cycles import Cycle
from registry.programs.decisions import ask
from registry.programs.refusals import CHUNK, STEP_SECONDS, Connection, know
from registry.programs.rules import Rules, RuleSource, Target, placed
from registry.programs.work import Position, Step
from registry.storage.outbox import Outbox

_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=2**128 - 1)
# A chunk is a range of registrants, so that both sides of a join are read in the order of their keys.
_BOUND: Final = {
    "enrollment": "SELECT registrant_id FROM enrollment WHERE program_id = $1 AND registrant_id > $2 "
    "ORDER BY registrant_id OFFSET $3 LIMIT 1",
    "cycle_beneficiary": "SELECT registrant_id FROM cycle_beneficiary WHERE cycle_id = $1 AND registrant_id > $2 "
    "ORDER BY registrant_id OFFSET $3 LIMIT 1",
    "entitlement": "SELECT registrant_id FROM entitlement WHERE cycle_id = $1 AND registrant_id > $2 "
    "ORDER BY registrant_id OFFSET $3 LIMIT 1",
}
_SNAPSHOT: Final = """
INSERT INTO cycle_beneficiary (cycle_id, registrant_id, version, area_id, members, recipient_id, amounts)
SELECT $4, r.id, r.version, r.area_id, {members}, {recipient}, ARRAY[{amounts}]::bigint[]
FROM enrollment e JOIN registrant r ON r.id = e.registrant_id {group}
WHERE e.program_id = $1 AND e.state = 'enrolled' AND e.since <= $5 AND e.registrant_id > $2 AND e.registrant_id <= $3
    AND r.id > $2 AND r.id <= $3 AND r.status = 'active' AND {rule}
ORDER BY r.id
"""
# Who of a group receives: its principal recipient of that day, else its head, if alive.
_GROUP: Final = """
LEFT JOIN LATERAL (
    SELECT count(*)::int AS members, (array_agg(m.member_id ORDER BY 'principal_recipient' = ANY (m.roles) DESC)
        FILTER (WHERE p.status = 'active' AND m.roles && '{{principal_recipient,head}}'))[1] AS recipient
    FROM membership m JOIN registrant p ON p.id = m.member_id
    WHERE m.group_id = r.id AND m.start_date <= {day} AND (m.ended_date IS NULL OR m.ended_date > {day})
) g ON true
"""
_PREPARE: Final = """
INSERT INTO entitlement (id, cycle_id, registrant_id, recipient_id, number, kind, amount, items, held, held_until,
    valid_from, valid_until)
SELECT ($4 || lpad(to_hex(d.n), 12, '0'))::uuid, $1, d.registrant_id, d.recipient_id, $5 + d.n, $6,
    {money}, {items}, {held}, {until}, $7, $8
FROM (
    SELECT registrant_id, recipient_id, amounts, {amount} AS amount, row_number() OVER (ORDER BY registrant_id) AS n
    FROM cycle_beneficiary WHERE cycle_id = $1 AND registrant_id > $2 AND registrant_id <= $3 AND {amount} > 0
) d {verified}
"""
_SUMS: Final = """
UPDATE cycle c SET entitlements = s.number, total = s.total, largest = s.largest
FROM (SELECT count(*) AS number, coalesce(sum(amount), 0)::bigint AS total, coalesce(max(amount), 0) AS largest
    FROM entitlement WHERE cycle_id = $1 AND state = 'draft') s
WHERE c.id = $1
"""
_MOVE: Final = """
UPDATE entitlement SET state = $4, updated_at = now()
WHERE cycle_id = $1 AND registrant_id > $2 AND registrant_id <= $3 AND state = ANY ($5)
"""
_MOST_TOTAL: Final = 2**53 - 1


def snapshot(cycle_id: UUID, rules: Rules, actor: str, outbox: Outbox, *, chunk: int = CHUNK) -> Step:
    """Return the step that notes who is in a cycle, what each amount rule gives and who receives, once and for all."""

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        cycle = await cycles.get(connection, cycle_id, lock=True)
        if cycle.snapshot_at is not None:
            return {**position, "result": {"beneficiaries": cycle.beneficiaries}}, True
        position = await _begun(connection, cycle_id, "cycle_beneficiary", position)
        # Whoever is enrolled after this instant waits for the next cycle.
        began = position.get("began") or cycles.now().isoformat()
        upto, last = await _bound(connection, "enrollment", cycle.program_id, position, chunk)
        args: list[Any] = [cycle.program_id, _after(position), upto, cycle_id, datetime.fromisoformat(began)]
        text = _snapshot_text(cycle, await rules(connection), args)
        made = _number(await connection.execute(text, *args, timeout=STEP_SECONDS))
        going = {"began": began, "after": str(upto), "count": position.get("count", 0) + made}
        if not last:
            return going, False
        number = await connection.fetchval(
            "SELECT count(*) FROM cycle_beneficiary WHERE cycle_id = $1", cycle_id
        )
        await know(connection, "cycle_beneficiary", number)
        await cycles.finish(
            connection, cycle_id, actor, outbox, snapshot_at=cycles.now(), beneficiaries=number
        )
        if (route := cycle.managers.entitlement.route) is not None:
            slot = DecisionSlot.ENTITLEMENT
            await ask(connection, slot, route, cycle.program_id, cycle.program, number, outbox, cycle=cycle)
        return {**going, "count": number, "result": {"beneficiaries": number}}, True

    return step


def _snapshot_text(cycle: Cycle, rules: RuleSource, args: list[Any]) -> str:
    target: Target = "group" if cycle.target_type == TargetType.GROUP else "individual"
    day = cycle.start_date

    def condition(text: str) -> str:
        return placed(rules(text, target=target, result="condition", as_of=day, program=cycle.program), args)

    benefit, managers = cycle.benefit, cycle.managers
    rule = condition(cycle.terms["eligibility"]) if managers.eligibility.each_cycle else "true"
    amounts = []
    for term in benefit.amounts:
        amount = f"coalesce({placed(rules(term.amount, target=target, result='amount', as_of=day, program=cycle.program), args)}::bigint, 0)"
        if term.most is not None:
            amount = f"least({amount}, {term.most})"
        amounts.append(
            amount
            if term.condition is None
            else f"CASE WHEN {condition(term.condition)} THEN {amount} ELSE 0 END"
        )
    for item in benefit.items:
        amounts.append(
            "1" if item.condition is None else f"CASE WHEN {condition(item.condition)} THEN 1 ELSE 0 END"
        )
    group = ""
    if target == "group":
        args.append(day)
        group = _GROUP.format(day=f"${len(args)}::date")
    return _SNAPSHOT.format(
        members="g.members" if group else "NULL",
        recipient="g.recipient" if group else "r.id",
        amounts=", ".join(amounts),
        group=group,
        rule=rule,
    )


def prepare(cycle_id: UUID, actor: str, outbox: Outbox, *, chunk: int = CHUNK) -> Step:
    """Return the step that makes one entitlement of each beneficiary whose amount is above zero."""

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        cycle = await cycles.get(connection, cycle_id, lock=True)
        if cycle.prepared_at is not None:
            return {**position, "result": {"entitlements": cycle.entitlements, "total": cycle.total}}, True
        position = await _begun(connection, cycle_id, "entitlement", position)
        upto, last = await _bound(connection, "cycle_beneficiary", cycle_id, position, chunk)
        args: list[Any] = [
            cycle_id, _after(position), upto, str(uuid7())[:24], position.get("number", 0), cycle.benefit.kind.value,
            cycle.start_date, cycle.start_date + timedelta(days=cycle.benefit.valid_days - 1),
        ]  # fmt: skip
        made = _number(await connection.execute(_prepare_text(cycle, args), *args, timeout=STEP_SECONDS))
        number = position.get("number", 0) + made
        going = {"after": str(upto), "number": number, "count": number}
        if not last:
            return going, False
        await connection.execute(_SUMS, cycle_id, timeout=STEP_SECONDS)
        await know(connection, "entitlement", number)
        done = await cycles.finish(connection, cycle_id, actor, outbox, prepared_at=cycles.now())
        if done.total > _MOST_TOTAL:
            raise Refused(
                f"The entitlements of cycle {done.name} sum up to more than a message can carry. Nothing of this step was kept.",
                code="amount-too-large",
                remedy="Amounts are in minor units of the currency; correct the amount rule.",
            )
        result = {
            "entitlements": done.entitlements, "total": done.total,
            "nothing_due": done.beneficiaries - done.entitlements,
        }  # fmt: skip
        return {**going, "result": result}, True

    return step


def _prepare_text(cycle: Cycle, args: list[Any]) -> str:
    benefit, payment = cycle.benefit, cycle.managers.payment
    parts = len(benefit.amounts) + len(benefit.items)
    amount = " + ".join(f"amounts[{number}]" for number in range(1, parts + 1))
    if cycle.managers.entitlement.route is not None:
        amount = (
            "coalesce((SELECT a.amount FROM cycle_amount a WHERE a.cycle_id = $1 "
            "AND a.registrant_id = cycle_beneficiary.registrant_id), 0)"
        )
    if benefit.most is not None:
        # A cap only ever lowers.
        amount = f"least({amount}, {benefit.most})"
    items, money = "NULL", "d.amount"
    if benefit.kind is BenefitKind.IN_KIND:
        args.append([one.model_dump(mode="json", exclude={"condition"}) for one in benefit.items])
        money = "NULL"
        items = (
            f"(SELECT jsonb_agg(t.item ORDER BY t.k) FROM jsonb_array_elements(${len(args)}::jsonb) WITH ORDINALITY "
            "AS t (item, k) WHERE d.amounts[t.k] > 0)"
        )
    held, until, verified = "CASE WHEN d.recipient_id IS NULL THEN 'no-recipient' END", "NULL", ""
    if payment.account == "verified" and benefit.kind is BenefitKind.CASH:
        verified = (
            "LEFT JOIN verified_account v ON v.registrant_id = d.recipient_id "
            "AND (v.expires_on IS NULL OR v.expires_on >= current_date)"
        )
        held = (
            "CASE WHEN d.recipient_id IS NULL THEN 'no-recipient' "
            "WHEN v.registrant_id IS NULL THEN 'account-unverified' END"
        )
        args.append(max(cycle.start_date, cycles.now().date()) + timedelta(days=payment.grace_days))
        until = (
            f"CASE WHEN d.recipient_id IS NOT NULL AND v.registrant_id IS NULL THEN ${len(args)}::date END"
        )
    return _PREPARE.format(amount=amount, items=items, money=money, held=held, until=until, verified=verified)


def moving(
    cycle_id: UUID,
    actor: str,
    outbox: Outbox,
    *,
    of: list[str],
    to: str,
    state: CycleStatus | None = None,
    chunk: int = CHUNK,
) -> Step:
    """Return the step that takes all entitlements of a cycle from some states to another, then the cycle to `state`."""

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        await cycles.get(connection, cycle_id, lock=True)
        upto, last = await _bound(connection, "entitlement", cycle_id, position, chunk)
        done = await connection.execute(_MOVE, cycle_id, _after(position), upto, to, of, timeout=STEP_SECONDS)
        moved = position.get("moved", 0) + _number(done)
        going = {"after": str(upto), "count": moved, "moved": moved}
        if not last:
            return going, False
        await cycles.finish(connection, cycle_id, actor, outbox, state)
        return {**going, "result": {"moved": going["moved"]}}, True

    return step


async def _begun(connection: Connection, cycle_id: UUID, table: str, position: Position) -> Position:
    """Return where to go on: what was made before, by a job that was stopped, is passed over."""
    if position:
        return position
    # Rows are made in the order of registrants, and an index gives the last one.
    row = await connection.fetchrow(
        f"SELECT registrant_id FROM {table} WHERE cycle_id = $1 ORDER BY registrant_id DESC LIMIT 1", cycle_id
    )
    if row is None:
        return position
    numbered = 0
    if table == "entitlement":
        numbered = await connection.fetchval(
            "SELECT max(number) FROM entitlement WHERE cycle_id = $1", cycle_id
        )
    return {"after": str(row["registrant_id"]), "number": numbered}


async def _bound(
    connection: Connection, table: str, of: UUID, position: Position, chunk: int
) -> tuple[UUID, bool]:
    """Return the last registrant of the next chunk, and whether there is nothing behind it."""
    found = await connection.fetchval(_BOUND[table], of, _after(position), chunk - 1)
    return (_LAST, True) if found is None else (found, False)


def _number(status: str) -> int:
    return int(status.rsplit(maxsplit=1)[-1])


def _after(position: Position) -> UUID:
    found = position.get("after")
    return _FIRST if found is None else UUID(found)
