"""The statements of payments that may go by several rails."""

from __future__ import annotations

from typing import Final

from routing.transfers import TRAIL

WHOLE: Final = """
WITH made AS (
    INSERT INTO transfer_batch (id, target, batch_id, currency, over_rails) VALUES ($1, $2, $3, $4, true)
    ON CONFLICT (target, batch_id) DO UPDATE SET over_rails = true RETURNING id
)
SELECT id FROM made
"""

ENTER: Final = """
WITH entered AS (
    INSERT INTO transfer (id, payment_id, cycle_id, institution, units, currency, key_id, instruction, target, batch, reason,
        attempt, rails, whole, state, report, completed_at, trail)
    SELECT i.id, i.payment_id, i.cycle_id, i.institution, i.units, i.currency, i.key_id, i.instruction, i.target, i.batch,
        i.reason, i.attempt, $12, i.whole, CASE WHEN i.reason IS NULL THEN 'queued' ELSE 'failed' END, i.reason IS NOT NULL,
        CASE WHEN i.reason IS NOT NULL THEN now() END,
        CASE WHEN i.reason IS NULL THEN '{}'::text[] ELSE ARRAY[to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')
            || '+00:00|lookup|failed|' || i.reason] END
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::bytea[],
        $9::text[], $10::uuid[], $11::text[], $13::smallint[], $14::uuid[])
        AS i (id, payment_id, cycle_id, institution, units, currency, key_id, instruction, target, batch, reason, attempt, whole)
    ORDER BY i.payment_id
    ON CONFLICT DO NOTHING RETURNING target, payment_id
), woken AS (SELECT pg_notify('hub_transfer', target) FROM (SELECT DISTINCT target FROM entered) AS targets)
SELECT payment_id, (SELECT count(*) FROM woken) AS woken FROM entered
"""

OTHER_AMOUNT: Final = """
SELECT t.payment_id FROM unnest($2::text[], $3::bigint[], $4::text[]) AS i (payment_id, units, currency)
JOIN transfer t ON t.rails = $1 AND t.payment_id = i.payment_id
WHERE (t.units, t.currency) <> (i.units, i.currency) LIMIT 1
"""

# Whoever completes a batch holds it first and its parts then; so does whoever brings a payment to the next rail.
LOCK_PARTS: Final = """
SELECT id FROM transfer_batch WHERE NOT over_rails AND batch_id <> '' AND id IN (
    SELECT t.batch FROM transfer t JOIN transfer_batch w ON w.id = t.whole WHERE w.target = $1 AND w.batch_id = $2
) ORDER BY id FOR UPDATE
"""
HOLD_WHOLES: Final = "SELECT id FROM transfer_batch WHERE id = ANY ($1::uuid[]) ORDER BY id FOR SHARE"
PART: Final = """
INSERT INTO transfer_batch (id, target, batch_id, currency) VALUES ($1, $2, $3, $4)
ON CONFLICT (target, batch_id) DO UPDATE SET currency = transfer_batch.currency RETURNING id
"""
# What a rail has of a batch is what is there, once the whole batch is; a payment that comes to it later opens its part again.
RECOUNT: Final = """
UPDATE transfer_batch b SET ordered = s.rows, ordered_units = s.units, closed_at = NULL,
    state = CASE WHEN b.state = 'closed' THEN 'running' ELSE b.state END
FROM (SELECT t.batch, count(*) AS rows, sum(t.units) AS units FROM transfer t WHERE t.batch = ANY ($1::uuid[])
      GROUP BY t.batch) s
WHERE b.id = s.batch AND b.batch_id <> '' AND b.ordered IS DISTINCT FROM s.rows AND EXISTS (
    SELECT FROM transfer t JOIN transfer_batch w ON w.id = t.whole WHERE t.batch = b.id AND w.ordered IS NOT NULL)
"""
STOP_PARTS: Final = """
UPDATE transfer_batch SET state = 'stopped', reason = $3 WHERE batch_id = $2 AND state = 'running' AND (
    target = $1 OR id IN (SELECT t.batch FROM transfer t JOIN transfer_batch w ON w.id = t.whole
        WHERE w.target = $1 AND w.batch_id = $2))
"""

# Settlings of two rails of one route touch attempts of each other: only one of them at a time, or each waits for the other.
ALONE: Final = """
SELECT count(pg_advisory_xact_lock(hashtextextended('transfer-rails ' || name, 0))) FROM unnest($1::text[]) AS r (name)
"""

SUPERSEDE: Final = "UPDATE transfer SET superseded = $2, report = false WHERE id = ANY ($1::uuid[])"
TOLD: Final = "UPDATE transfer SET report = false, reported_at = now() WHERE id = ANY ($1::uuid[])"

# The earlier rail says after all that it may have paid: what has not left at the later one waits for a person too.
EARLIER_CODE: Final = "earlier-rail-contradicts"
HOLD: Final = f"""
UPDATE transfer t SET state = 'review', reason = '{EARLIER_CODE}', report = true, due_at = NULL,
    completed_at = now(), updated_at = now(),
    trail = trail[greatest(cardinality(trail) - {TRAIL - 1}, 1):] || (to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')
        || '+00:00|' || stage || '|review|{EARLIER_CODE}')
FROM unnest($1::text[], $2::text[]) AS i (rails, payment_id)
WHERE t.rails = i.rails AND t.payment_id = i.payment_id AND NOT t.superseded AND t.state = 'queued'
"""

ATTEMPTS: Final = """
SELECT t.id, t.rails, t.payment_id, t.state, t.superseded FROM unnest($1::text[], $2::text[]) AS i (rails, payment_id)
JOIN transfer t ON t.rails = i.rails AND t.payment_id = i.payment_id ORDER BY t.attempt
"""
# Whether it was told is another question: what each target still has to tell, its own driver tells.
COUNTS: Final = "UPDATE transfer SET superseded = NOT $2::boolean WHERE id = $1"
TELL: Final = "UPDATE transfer SET report = true WHERE id = ANY ($1::uuid[])"
