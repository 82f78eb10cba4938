"""The statements of the ledger of transfers."""

from __future__ import annotations

from typing import Final

from routing.transfers import TRAIL

ROW: Final = """t.id, t.payment_id, nullif(b.batch_id, '') AS batch_id, t.stage, t.state, t.institution, t.refs, t.key_id,
    t.instruction, t.request_key_id, t.request, t.condition, t.charged, t.fee, t.asked, t.resent, t.reason, t.sent_at"""

BATCH: Final = """
WITH made AS (
    INSERT INTO transfer_batch (id, target, batch_id, currency) VALUES ($1, $2, $3, $4)
    ON CONFLICT (target, batch_id) DO NOTHING RETURNING id
)
SELECT id FROM made UNION ALL SELECT id FROM transfer_batch WHERE target = $2 AND batch_id = $3 LIMIT 1
"""

ENTER: Final = """
WITH entered AS (
    INSERT INTO transfer (id, batch, target, payment_id, cycle_id, institution, units, currency, key_id, instruction)
    SELECT i.id, $1, $2, i.payment_id, i.cycle_id, i.institution, i.units, i.currency, i.key_id, i.instruction
    FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bytea[])
        AS i (id, payment_id, cycle_id, institution, units, currency, key_id, instruction)
    ORDER BY i.payment_id
    ON CONFLICT (target, payment_id) DO NOTHING RETURNING 1
), woken AS (SELECT pg_notify('hub_transfer', $2) WHERE EXISTS (SELECT FROM entered))
SELECT count(*) + 0 * (SELECT count(*) FROM woken) FROM entered
"""

OTHER_AMOUNT: Final = """
SELECT t.payment_id FROM unnest($2::text[], $3::bigint[], $4::text[]) AS i (payment_id, units, currency)
JOIN transfer t ON t.target = $1 AND t.payment_id = i.payment_id
WHERE (t.units, t.currency) <> (i.units, i.currency) LIMIT 1
"""

OF_BATCH: Final = """
SELECT id, state, units, cycle_id, sent_at FROM transfer WHERE batch = b.id AND NOT b.over_rails
UNION ALL SELECT id, state, units, cycle_id, sent_at FROM transfer WHERE whole = b.id AND b.over_rails AND NOT superseded
"""
"""The transfers that count for the batch `b`; over several rails the attempt of each payment that counts."""

# What another batch ordered first stays there; it counts here too, so that this batch can close.
COMPLETE: Final = f"""
WITH noted AS (
    INSERT INTO transfer_message (target, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
), own AS (
    SELECT b.id, count(t.id) AS rows, coalesce(sum(t.units), 0)::bigint AS units
    FROM transfer_batch b LEFT JOIN LATERAL ({OF_BATCH}) t ON true
    WHERE b.target = $1 AND b.batch_id = $3 AND b.batch_id <> '' GROUP BY b.id
)
UPDATE transfer_batch b SET ordered = $4::bigint, ordered_units = $5::bigint, elsewhere = $4::bigint - own.rows,
    elsewhere_units = $5::bigint - own.units
FROM own WHERE b.id = own.id AND b.state <> 'closed'
"""

ENTERED: Final = "SELECT EXISTS (SELECT FROM transfer_message WHERE target = $1 AND message_id = $2)"

APPLY: Final = f"""
WITH i AS (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::bytea[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::int[], $15::int[], $16::text[],
        $17::float8[], $18::timestamptz[], $19::text[], $20::bool[], $21::text[])
    AS i (place, id, at_stage, at_state, stage, state, institution, refs, request, key_id, condition, charged, fee, asked,
        resent, reason, due_in, completed_at, rail_reference, ends, entry)
), moved AS (
    UPDATE transfer t SET stage = coalesce(i.stage, t.stage), state = coalesce(i.state, t.state),
        institution = coalesce(i.institution, t.institution),
        refs = CASE WHEN i.refs IS NULL THEN t.refs ELSE t.refs || i.refs::jsonb END,
        request = coalesce(i.request, t.request), request_key_id = coalesce(i.key_id, t.request_key_id),
        condition = coalesce(i.condition, t.condition), charged = coalesce(i.charged, t.charged),
        fee = coalesce(i.fee, t.fee), asked = coalesce(i.asked, t.asked), resent = coalesce(i.resent, t.resent),
        reason = CASE WHEN i.state = 'paid' THEN NULL ELSE coalesce(i.reason, t.reason) END,
        rail_reference = coalesce(i.rail_reference, t.rail_reference),
        sent_at = CASE WHEN i.state = 'sent' AND i.at_state <> 'sent' THEN now() ELSE t.sent_at END,
        due_at = CASE WHEN i.due_in IS NOT NULL THEN now() + make_interval(secs => i.due_in)
            WHEN i.ends OR i.state = 'queued' THEN NULL ELSE t.due_at END,
        leased_until = '-infinity', report = t.report OR (i.ends AND i.state <> i.at_state),
        completed_at = CASE WHEN i.ends THEN coalesce(i.completed_at, now()) ELSE t.completed_at END,
        trail = t.trail[greatest(cardinality(t.trail) - {TRAIL - 1}, 1):] || i.entry, updated_at = now()
    FROM i WHERE t.id = i.id AND t.stage = i.at_stage AND t.state = i.at_state
    RETURNING i.place, t.id, t.target, t.state, t.created_at, t.trail[cardinality(t.trail) - 1] AS before
), known AS (
    INSERT INTO transfer_reference (transfer_id, target, hash)
    SELECT r.id, r.target, r.hash FROM unnest($22::uuid[], $23::text[], $24::bytea[]) AS r (id, target, hash)
    JOIN moved ON moved.id = r.id ON CONFLICT DO NOTHING
), woken AS (
    SELECT pg_notify('hub_transfer', target) FROM (SELECT DISTINCT target FROM moved WHERE state = 'queued') AS targets
)
SELECT m.place, m.created_at, m.before, (SELECT count(*) FROM woken) AS woken FROM moved m
"""

FIND: Final = f"""
SELECT i.place, {ROW}
FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS i (target, hash, place)
JOIN transfer_reference r ON r.target = i.target AND r.hash = i.hash
JOIN transfer t ON t.id = r.transfer_id JOIN transfer_batch b ON b.id = t.batch ORDER BY i.place, t.id
"""

_OPEN: Final = """b.target = $1 AND b.state = 'running'
    AND NOT EXISTS (SELECT FROM transfer_stop s WHERE s.target = $1)"""

# A bitmap scan reads the index entries of every step of the last minutes, dead as they are, at every take; a plain index
# scan marks them once and passes them by.
TAKING: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('transfer-take ' || $1, 0)), set_config('enable_bitmapscan', 'off', true)
"""
"""One process at a time takes of a target, so that what two see as room is not given out twice; ends with the transaction."""

# What was given out and has not taken its step yet stands among the first queued, since rows are given out in their order.
# `transfer_first` keeps that order, so a batch of a million is not sorted to give out its first few.
TAKE_FIRST: Final = f"""
WITH room AS (
    SELECT greatest($2::int - (
        SELECT count(*) FROM transfer WHERE target = $1 AND stage = 'lookup' AND state = 'working'
    ) - (
        SELECT count(*) FROM transfer_batch b CROSS JOIN LATERAL (
            SELECT t.leased_until FROM transfer t WHERE t.batch = b.id AND t.state = 'queued' AND t.stage = 'lookup'
            ORDER BY t.id LIMIT 2 * $2::int
        ) q WHERE {_OPEN} AND q.leased_until >= now()
    ), 0) AS free
), batches AS (
    -- Of each batch only so many wait at later stages, that counting them stays cheap whatever the size of the batch.
    SELECT b.id, CASE WHEN $4::int = 0 THEN r.free ELSE least(r.free, greatest($4::int - (SELECT count(*) FROM (
        SELECT 1 FROM transfer t WHERE t.batch = b.id AND t.state = 'queued' AND t.stage <> 'lookup' LIMIT $4::int
    ) w), 0)) END AS free
    FROM transfer_batch b CROSS JOIN room r WHERE {_OPEN}
), picked AS (
    SELECT q.id FROM batches b CROSS JOIN LATERAL (
        SELECT t.id FROM transfer t
        WHERE t.batch = b.id AND t.state = 'queued' AND t.stage = 'lookup' AND t.leased_until < now()
        ORDER BY t.id LIMIT b.free FOR UPDATE SKIP LOCKED
    ) q LIMIT (SELECT free FROM room)
), taken AS (
    UPDATE transfer t SET leased_until = now() + make_interval(secs => $3::float8) FROM picked WHERE t.id = picked.id
    RETURNING t.*
)
SELECT {ROW} FROM taken t JOIN transfer_batch b ON b.id = t.batch ORDER BY t.id
"""

_NEXT_GROUP: Final = """SELECT t.stage, coalesce(t.institution, '') AS institution FROM transfer t
    WHERE t.batch = b.id AND t.state = 'queued' AND t.stage <> 'lookup'"""

# Stages and institutions are found by jumps from one to the next, and of each no more is counted than two windows: a million
# that wait cost no more than a thousand.
# A bulk call waits until it is full, or until nothing that could fill it is still being looked up.
# An institution that is not known is '' here: the indexes keep it so, and an index finds no NULL that equals another.
TAKE_ON: Final = f"""
WITH ready AS MATERIALIZED (
    SELECT b.id AS batch, g.stage, g.institution, w.waiting, w.leased FROM transfer_batch b CROSS JOIN LATERAL (
        WITH RECURSIVE found AS (
            ({_NEXT_GROUP} ORDER BY t.stage, coalesce(t.institution, '') LIMIT 1)
            UNION ALL
            SELECT n.stage, n.institution FROM found f CROSS JOIN LATERAL (
                {_NEXT_GROUP} AND (t.stage, coalesce(t.institution, '')) > (f.stage, f.institution)
                ORDER BY t.stage, coalesce(t.institution, '') LIMIT 1
            ) n
        )
        SELECT stage, institution FROM found
    ) g CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE q.leased_until < now()) AS waiting,
            count(*) FILTER (WHERE q.leased_until >= now()) AS leased
        FROM (
            SELECT t.leased_until FROM transfer t
            WHERE t.batch = b.id AND t.state = 'queued' AND t.stage <> 'lookup' AND t.stage = g.stage
              AND coalesce(t.institution, '') = g.institution
            ORDER BY t.id LIMIT 2 * greatest($2::int, $4::int)
        ) q
    ) w WHERE {_OPEN}
), flying AS MATERIALIZED (
    SELECT coalesce(institution, '') AS institution, count(*) AS many FROM transfer
    WHERE target = $1 AND state IN ('working', 'sent') AND stage <> 'lookup' AND EXISTS (SELECT FROM ready WHERE waiting > 0)
    GROUP BY coalesce(institution, '')
), under_way AS MATERIALIZED (
    SELECT w.institution, $2::int - sum(w.leased) - coalesce(max(f.many), 0) AS free
    FROM ready w LEFT JOIN flying f ON f.institution = w.institution GROUP BY w.institution
), room AS (
    -- What one batch takes of an institution's window is no longer there for the next.
    SELECT r.batch, r.stage, r.institution, greatest(u.free - coalesce(sum(r.waiting) OVER (
        PARTITION BY r.institution ORDER BY r.batch, r.stage ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0), 0) AS free
    FROM ready r JOIN under_way u ON u.institution = r.institution
    WHERE r.waiting > 0 AND (r.waiting >= $4::int OR NOT EXISTS (
        SELECT FROM transfer t WHERE t.batch = r.batch AND t.stage = 'lookup' AND t.state = 'queued'
    ) AND NOT EXISTS (
        SELECT FROM transfer t WHERE t.target = $1 AND t.stage = 'lookup' AND t.state = 'working' AND t.batch = r.batch))
), picked AS (
    SELECT q.id FROM room r CROSS JOIN LATERAL (
        SELECT t.id FROM transfer t
        WHERE t.batch = r.batch AND t.state = 'queued' AND t.stage = r.stage AND t.stage <> 'lookup'
          AND coalesce(t.institution, '') = r.institution AND t.leased_until < now()
        ORDER BY t.id LIMIT r.free FOR UPDATE SKIP LOCKED
    ) q
), taken AS (
    UPDATE transfer t SET leased_until = now() + make_interval(secs => $3::float8) FROM picked WHERE t.id = picked.id
    RETURNING t.*
)
SELECT {ROW} FROM taken t JOIN transfer_batch b ON b.id = t.batch ORDER BY t.institution, t.id
"""

OVERDUE: Final = f"""
WITH picked AS (
    SELECT id FROM transfer WHERE target = $1 AND due_at <= now() ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE transfer t SET due_at = now() + make_interval(secs => $3::float8) FROM picked WHERE t.id = picked.id RETURNING t.*
)
SELECT {ROW} FROM taken t JOIN transfer_batch b ON b.id = t.batch ORDER BY t.id
"""

STOP_TARGET: Final = (
    "INSERT INTO transfer_stop (target, reason) VALUES ($1, $2) ON CONFLICT (target) DO NOTHING"
)
STOP_BATCH: Final = """
UPDATE transfer_batch SET state = 'stopped', reason = $3 WHERE target = $1 AND batch_id = $2 AND state = 'running'
"""
