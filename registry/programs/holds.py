"""Holding what is not to be paid now, resuming it, recalling batches that have not gone out, grace for missing accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from registry.audit import AuditEvent, insert_many
from registry.programs import cycles, funds
from registry.programs.distribution import FOLLOWED, batch_message, origin_of
from registry.programs.refusals import STEP_SECONDS, Connection, not_found, one_row
from registry.storage.outbox import Outbox

LIST_LIMIT: Final = 100_000
_LOCK: Final = """
SELECT c.id FROM cycle c WHERE c.id IN (SELECT cycle_id FROM entitlement WHERE id = ANY ($1))
ORDER BY c.id FOR NO KEY UPDATE OF c
"""
_HOLD: Final = """
UPDATE entitlement SET held = $2, held_until = $3, updated_at = now()
WHERE id = ANY ($1) AND state IN ('draft', 'pending_validation', 'approved', 'sent_to_provider') RETURNING id
"""
_PULL: Final = """
UPDATE payment p SET state = 'cancelled', cancelled = p.amount, reason_code = $2, completed_at = now()
FROM payment_batch b WHERE p.entitlement_id = ANY ($1) AND p.state = 'issued' AND b.id = p.batch_id AND b.fetched_at IS NULL
RETURNING p.batch_id, p.entitlement_id
"""
_SINGLES: Final = """
SELECT p.id FROM payment p JOIN payment_batch b ON b.id = p.batch_id
WHERE p.entitlement_id = ANY ($1) AND p.state = 'sent' AND b.form = 'single' ORDER BY p.id FOR UPDATE OF p
"""
_WITHDRAWN: Final = """
UPDATE payment SET state = 'cancelled', cancelled = amount, reason_code = $2, completed_at = now()
WHERE id = ANY ($1) RETURNING entitlement_id
"""
_LATE: Final = """
SELECT p.id FROM payment p WHERE p.entitlement_id = ANY ($1) AND p.state IN ('sent', 'unknown') ORDER BY p.id
"""
_BACK: Final = "UPDATE entitlement SET state = 'approved', updated_at = now() WHERE id = ANY ($1) AND state = 'sent_to_provider'"
_REORDER: Final = """
UPDATE payment_batch b SET version = b.version + 1, message_id = $2 WHERE b.id = $1 RETURNING b.version
"""
# Who receives now, for entitlements whose recipient is not there (any more): the household's principal recipient, else head.
_RESUME: Final = """
WITH asked AS (
    SELECT e.id, e.registrant_id, e.recipient_id, r.kind, r.status AS own, p.status AS theirs FROM entitlement e
    JOIN registrant r ON r.id = e.registrant_id LEFT JOIN registrant p ON p.id = e.recipient_id
    WHERE e.id = ANY ($1) AND e.held IS NOT NULL
), found AS (
    SELECT a.id, CASE WHEN a.theirs = 'active' THEN a.recipient_id WHEN a.kind = 'group' THEN (
        SELECT m.member_id FROM membership m JOIN registrant p ON p.id = m.member_id
        WHERE m.group_id = a.registrant_id AND p.status = 'active' AND m.roles && '{principal_recipient,head}'
            AND m.start_date <= current_date AND (m.ended_date IS NULL OR m.ended_date > current_date)
        ORDER BY 'principal_recipient' = ANY (m.roles) DESC LIMIT 1) END AS recipient_id
    FROM asked a WHERE a.own = 'active'
)
UPDATE entitlement e SET held = NULL, held_until = NULL, recipient_id = f.recipient_id, updated_at = now()
FROM found f WHERE e.id = f.id AND f.recipient_id IS NOT NULL RETURNING e.id
"""
_LIVE: Final = "(SELECT id FROM cycle WHERE state NOT IN ('ended', 'cancelled'))"
_OPEN: Final = "('draft', 'pending_validation', 'approved', 'sent_to_provider')"
_STOPPED: Final = f"""
SELECT e.id, r.status FROM registrant r CROSS JOIN {_LIVE} c
    JOIN entitlement e ON e.cycle_id = c.id AND e.registrant_id = r.id
WHERE r.id = ANY ($1) AND r.status <> 'active' AND e.state IN {_OPEN} AND NOT {FOLLOWED}
UNION
SELECT e.id, r.status FROM registrant r JOIN membership m ON m.member_id = r.id CROSS JOIN {_LIVE} c
    JOIN entitlement e ON e.cycle_id = c.id AND e.registrant_id = m.group_id AND e.recipient_id = r.id
WHERE r.id = ANY ($1) AND r.status NOT IN ('active', 'merged') AND e.state IN {_OPEN}
"""
# What is not ordered yet goes to the survivor, whose memberships are the absorbed's by now.
_FOLLOW: Final = f"""
UPDATE entitlement e SET recipient_id = r.merged_into, updated_at = now()
FROM registrant r JOIN registrant s ON s.id = r.merged_into AND s.status = 'active'
WHERE r.id = ANY ($1) AND r.status = 'merged' AND e.recipient_id = r.id AND e.cycle_id IN {_LIVE}
    AND e.state IN ('draft', 'pending_validation', 'approved')
    AND e.registrant_id IN (SELECT r.id UNION SELECT m.group_id FROM membership m WHERE m.member_id = s.id)
    AND (e.registrant_id <> r.id OR {FOLLOWED})
"""
_GIVEN_BACK: Final = f"""
UPDATE entitlement e SET recipient_id = CASE WHEN e.recipient_id = k.survivor_id THEN r.id ELSE e.recipient_id END,
    held = CASE WHEN e.held = 'registrant-merged' THEN NULL ELSE e.held END, updated_at = now()
FROM registrant r JOIN registrant_merge k ON k.absorbed_id = r.id
WHERE r.id = ANY ($1) AND r.status = 'active' AND e.cycle_id IN {_LIVE} AND e.state IN ('draft', 'pending_validation', 'approved')
    AND (e.registrant_id = r.id OR e.recipient_id = k.survivor_id AND e.registrant_id IN (
        SELECT m.group_id FROM membership m WHERE m.member_id = r.id AND m.start_date <= current_date
            AND (m.ended_date IS NULL OR m.ended_date > current_date) AND m.roles && '{{principal_recipient,head}}'))
"""
_LEAVE: Final = """
UPDATE enrollment e SET state = 'exited', exit_date = current_date, since = now(), cause = 'rule', reason = r.status, actor = 'hub'
FROM registrant r WHERE r.id = ANY ($1) AND e.registrant_id = r.id AND (
    r.status = 'deceased' AND e.state IN ('draft', 'enrolled', 'paused', 'not_eligible')
    OR r.status = 'merged' AND e.state IN ('draft', 'enrolled', 'paused'))
"""
_CANCEL: Final = """
UPDATE entitlement SET state = 'cancelled', updated_at = now()
WHERE id = ANY ($1) AND state IN ('draft', 'pending_validation', 'approved') RETURNING cycle_id, amount, topped, paid, id
"""
_VERIFIED: Final = """
UPDATE entitlement e SET held = NULL, held_until = NULL, updated_at = now() FROM verified_account v
WHERE e.cycle_id = $1 AND e.held = 'account-unverified' AND v.registrant_id = e.recipient_id
    AND (v.expires_on IS NULL OR v.expires_on >= $2)
"""
_RELEASE: Final = """
UPDATE entitlement SET held = NULL, held_until = NULL, updated_at = now()
WHERE cycle_id = $1 AND held IS NOT NULL AND held_until < $2 AND (held <> 'account-unverified' OR $3) AND recipient_id IS NOT NULL
"""
_EXPIRE: Final = """
UPDATE entitlement SET state = CASE WHEN state = 'approved' THEN 'expired' ELSE 'cancelled' END, updated_at = now()
WHERE cycle_id = $1 AND held = 'account-unverified' AND held_until < $2 AND state IN ('draft', 'pending_validation', 'approved')
RETURNING cycle_id, amount, topped, paid, id
"""


async def hold(
    connection: Connection,
    ids: Sequence[UUID],
    reason: str,
    actor: str,
    outbox: Outbox,
    *,
    until: date | None = None,
    needed: bool = True,
) -> dict[str, int]:
    """Hold entitlements: payments that have not gone out are stopped, others keep their way.

    Returns `held`, `pulled` (payments stopped), `late` (payments of these that are on their way or may be, and cannot be
    stopped; their results still count) and `unchanged` (paid or closed already). Without `needed` it holds also
    where no route takes what is left of a batch: it then waits, and a person sees it open.
    """
    _bounded(ids)
    await connection.execute(_LOCK, list(ids))
    held = await connection.fetch(_HOLD, list(ids), reason, until, timeout=STEP_SECONDS)
    pulled, late = await _pull(connection, [row["id"] for row in held], reason, actor, outbox, needed=needed)
    await insert_many(
        connection,
        [
            AuditEvent(actor, "entitlement.hold", "entitlement", str(row["id"]), details={"reason": reason})
            for row in held
        ],
    )
    return {"held": len(held), "pulled": pulled, "late": late, "unchanged": len(set(ids)) - len(held)}


async def _pull(
    connection: Connection,
    ids: Sequence[UUID],
    reason: str,
    actor: str,
    outbox: Outbox,
    *,
    needed: bool = True,
) -> tuple[int, int]:
    """Stop the payments of entitlements that have not gone out; return how many, and how many have."""
    rows = await connection.fetch(_PULL, list(ids), reason, timeout=STEP_SECONDS)
    pulled = [row["entitlement_id"] for row in rows]
    ordered = {
        origin_of(row["id"]): row["id"]
        for row in await connection.fetch(_SINGLES, list(ids), timeout=STEP_SECONDS)
    }
    if ordered:
        back = await outbox.withdraw(connection, list(ordered), reason, actor=actor)
        singles = await connection.fetch(
            _WITHDRAWN, [ordered[each] for each in back], reason, timeout=STEP_SECONDS
        )
        pulled += [row["entitlement_id"] for row in singles]
    if pulled:
        await connection.execute(_BACK, pulled, timeout=STEP_SECONDS)
    for batch_id in sorted({row["batch_id"] for row in rows}):
        await _reorder(connection, batch_id, outbox, needed=needed)
    late = await connection.fetch(_LATE, list(ids), timeout=STEP_SECONDS)
    await insert_many(
        connection,
        [
            AuditEvent(actor, "payment.stop_late", "payment", str(row["id"]), details={"reason": reason})
            for row in late
        ],
    )
    return len(pulled), len(late)


async def _reorder(connection: Connection, batch_id: UUID, outbox: Outbox, *, needed: bool) -> None:
    """Order what is left of a batch anew; whoever comes with the claim of before is told that it was superseded."""
    left = await one_row(
        connection,
        "SELECT b.cycle_id, b.version, b.route, count(p.id) AS count, sum(p.amount)::bigint AS ordered FROM payment_batch b "
        "LEFT JOIN payment p ON p.batch_id = b.id AND p.state = 'issued' WHERE b.id = $1 GROUP BY b.id",
        batch_id,
    )
    message = None
    if left["count"]:
        cycle = await cycles.get(connection, left["cycle_id"])
        message = batch_message(cycle, batch_id, left["version"] + 1, left["count"], left["ordered"])
    await connection.execute(_REORDER, batch_id, None if message is None else message.id)
    if message is not None:
        route = left["route"] if needed else None
        await outbox.write(connection, [message], route=route, needed=needed)


async def resume(connection: Connection, ids: Sequence[UUID], actor: str) -> dict[str, int]:
    """Let entitlements be paid again with the next distribution, to whoever receives for them now.

    Who died, or a household without anybody to receive, stays held. Returns `resumed` and `unchanged`.
    """
    _bounded(ids)
    await connection.execute(_LOCK, list(ids))
    rows = await connection.fetch(_RESUME, list(ids), timeout=STEP_SECONDS)
    await insert_many(
        connection, [AuditEvent(actor, "entitlement.resume", "entitlement", str(row["id"])) for row in rows]
    )
    return {"resumed": len(rows), "unchanged": len(set(ids)) - len(rows)}


async def recall(
    connection: Connection, batch_id: UUID, reason: str, actor: str, outbox: Outbox
) -> dict[str, int]:
    """Take back a whole batch that has not gone out; its entitlements are held until somebody resumes them.

    Of payments ordered one by one those come back that were not sent yet; `late` counts the others, held as well.

    Raises `Refused` (`batch-not-found`, `batch-fetched`).
    """
    cycle_id = await connection.fetchval("SELECT cycle_id FROM payment_batch WHERE id = $1", batch_id)
    if cycle_id is None:
        raise not_found("batch", "batch-not-found", "`hub program reconcile CYCLE --json` lists the batches.")
    await cycles.get(connection, cycle_id, lock=True)
    batch = await one_row(
        connection,
        "SELECT form, fetched_at IS NOT NULL AS fetched FROM payment_batch WHERE id = $1 FOR UPDATE",
        batch_id,
    )
    rows = await connection.fetch(
        "SELECT entitlement_id FROM payment WHERE batch_id = $1 AND state IN ('issued', 'sent')",
        batch_id,
        timeout=STEP_SECONDS,
    )
    ids = [row["entitlement_id"] for row in rows]
    gone = batch["fetched"] and batch["form"] == "batch"
    pulled = late = 0
    if not gone and ids:
        await connection.execute(_HOLD, ids, reason, None, timeout=STEP_SECONDS)
        pulled, late = await _pull(connection, ids, reason, actor, outbox)
    if gone or (late and not pulled):
        raise Refused(
            f"Batch {batch_id} has gone out and cannot be recalled. Nothing was changed.",
            code="batch-fetched",
            remedy="Wait for its results; what the rail turns down can be settled by hand (`hub program payment settle`).",
        )
    await insert_many(
        connection,
        [
            AuditEvent(
                actor, "payment_batch.recall", "payment_batch", str(batch_id), details={"reason": reason}
            )
        ],
    )
    return {"recalled": pulled, "late": late}


async def on_registrant_status(connection: Connection, ids: Sequence[UUID], outbox: Outbox) -> int:
    """Stop what is not yet sent for registrants that died, were merged or are out of use, in the caller's transaction.

    For the writer of registrants, with the ids whose status changed. Whoever died or was merged leaves their programs.
    What the absorbed was to receive goes to the survivor, unless the survivor receives in that cycle too; a split gives it
    back. Returns how many entitlements are held now.
    """
    if not ids:
        return 0
    await connection.execute(_LEAVE, list(ids))
    await connection.execute(_FOLLOW, list(ids), timeout=STEP_SECONDS)
    await connection.execute(_GIVEN_BACK, list(ids), timeout=STEP_SECONDS)
    rows = await connection.fetch(_STOPPED, list(ids))
    by_status: dict[str, list[UUID]] = {}
    for row in rows:
        by_status.setdefault(row["status"], []).append(row["id"])
    for status, own in sorted(by_status.items()):
        await hold(connection, own, f"registrant-{status}", "hub", outbox, needed=False)
    return len(rows)


async def cancel(connection: Connection, ids: Sequence[UUID], reason: str, actor: str) -> dict[str, int]:
    """Cancel entitlements for good; what was reserved for them is free again. What is on its way cannot be cancelled."""
    _bounded(ids)
    await connection.execute(_LOCK, list(ids))
    rows = await connection.fetch(_CANCEL, list(ids), timeout=STEP_SECONDS)
    await freed(connection, rows, actor)
    await insert_many(
        connection,
        [
            AuditEvent(actor, "entitlement.cancel", "entitlement", str(row["id"]), details={"reason": reason})
            for row in rows
        ],
    )
    return {"cancelled": len(rows), "unchanged": len(set(ids)) - len(rows)}


async def freed(connection: Connection, rows: Sequence[asyncpg.Record], actor: str) -> None:
    """Give back what was reserved for entitlements that are closed, or take them off the total that is to be approved."""
    by_cycle: dict[UUID, list[int]] = {}
    for row in rows:
        sums = by_cycle.setdefault(row["cycle_id"], [0, 0])
        sums[0] += 1
        sums[1] += (row["amount"] or 0) + row["topped"] - row["paid"]
    for cycle_id, (number, amount) in by_cycle.items():
        cycle = await cycles.get(connection, cycle_id)
        if cycle.state.value in {"draft", "to_approve"}:
            await connection.execute(
                "UPDATE cycle SET entitlements = entitlements - $2, total = total - $3 WHERE id = $1",
                cycle_id,
                number,
                amount,
            )
        elif cycle.fund_id is not None and amount > 0:
            await funds.entry(connection, cycle.fund_id, "release", amount, actor, cycle_id=cycle_id)


async def grace(connection: Connection, cycle_id: UUID, today: date, actor: str) -> dict[str, int]:
    """Release who has a verified account by now and every hold whose time is over; let expire who never got an account.

    What happens after the grace (expire or release) is as the cycle's terms say.
    """
    cycle = await cycles.get(connection, cycle_id, lock=True)
    release = cycle.managers.payment.after_grace == "release"
    verified = await connection.execute(_VERIFIED, cycle_id, today, timeout=STEP_SECONDS)
    over = await connection.execute(_RELEASE, cycle_id, today, release, timeout=STEP_SECONDS)
    rows = [] if release else await connection.fetch(_EXPIRE, cycle_id, today, timeout=STEP_SECONDS)
    await freed(connection, rows, actor)
    found = {
        "verified": int(verified.split()[-1]), "released": int(over.split()[-1]), "expired": len(rows),
    }  # fmt: skip
    await insert_many(connection, [AuditEvent(actor, "cycle.grace", "cycle", str(cycle_id), details=found)])
    return found


async def verify_accounts(
    connection: Connection, ids: Sequence[UUID], source: str, *, expires_on: date | None = None
) -> int:
    """Note that these people have an account that was proved to be theirs; return how many are known."""
    _bounded(ids)
    done = await connection.execute(
        "INSERT INTO verified_account (registrant_id, verified_at, expires_on, source) "
        "SELECT r.id, now(), $3, $2 FROM registrant r WHERE r.id = ANY ($1) ON CONFLICT (registrant_id) DO UPDATE SET "
        "verified_at = excluded.verified_at, expires_on = excluded.expires_on, source = excluded.source",
        list(ids),
        source,
        expires_on,
    )
    return int(done.split()[-1])


def _bounded(ids: Sequence[UUID]) -> None:
    if not 0 < len(ids) <= LIST_LIMIT:
        raise Refused(
            f"A list has 1 to {LIST_LIMIT:,} ids; this one has {len(ids):,}. Nothing was changed.",
            code="list-length",
            remedy="Cut the list into parts.",
        )
