"""The statements by which a person's deeds on deliveries are written: each one statement, deed and audit together."""

from __future__ import annotations

from typing import Final

__all__ = ["CANCEL", "DISMISS", "REPLAY", "WITHDRAW", "WITHDRAWN"]

WITHDRAWN: Final = "withdrawn"
"""The code of deliveries whose message its sender took back; they are never sent again."""

# The count of replays on the first delivery is also the lock: of two calls that saw the same count, the second finds it
# changed and makes nothing.
REPLAY: Final = """
WITH i AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::int[], $6::text[], $7::text[], $8::text[],
        $9::timestamptz[], $10::uuid[]) WITH ORDINALITY
    AS i (parent, root, replays, id, version, target, mapping, visible, due, audit_id, n)
), counted AS (
    UPDATE delivery d SET replays = d.replays + 1 FROM i
    WHERE d.id = i.root AND d.replays = i.replays AND d.ended_at IS NOT NULL AND d.code IS DISTINCT FROM 'withdrawn'
    RETURNING d.id
), made AS (
    INSERT INTO delivery (id, message_id, route, route_version, target, mapping, order_key, state, next_at, replay_of,
        visible, code)
    SELECT i.id, p.message_id, p.route, i.version, i.target, i.mapping, p.order_key, 'queued', i.due, i.root,
        string_to_array(i.visible, ' '),
        CASE WHEN p.code IN ('outcome-unknown', 'replay-forced') THEN 'replay-forced' END
    FROM i JOIN counted c ON c.id = i.root JOIN delivery p ON p.id = i.parent
    ORDER BY i.n
    RETURNING id, message_id, route
), sent AS (
    INSERT INTO outbox (delivery_id, message_id, route, traceparent, available_at)
    SELECT made.id, made.message_id, made.route, m.traceparent, i.due
    FROM made JOIN i ON i.id = made.id JOIN message m ON m.id = made.message_id
    ORDER BY i.n
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, request_id, details)
    SELECT i.audit_id, $11, 'delivery.replay', 'delivery', i.parent::text, 'replayed', $12,
        jsonb_strip_nulls(jsonb_build_object('replay', made.id, 'message', made.message_id, 'route', made.route,
            'reason', $13::text))
    FROM made JOIN i ON i.id = made.id
), woken AS (
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM made) AS routes
)
SELECT id, (SELECT count(*) FROM woken) AS woken FROM made
"""

# What is not known to have failed keeps its code, so that a later replay still needs force.
DISMISS: Final = """
WITH i AS (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS i (id, audit_id)),
changed AS (
    UPDATE delivery d SET state = 'cancelled', reason = $5,
        code = CASE WHEN d.code = 'outcome-unknown' THEN d.code ELSE 'dismissed' END
    FROM i WHERE d.id = i.id AND d.state IN ('dead', 'refused')
    RETURNING d.id, d.message_id, d.route
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, request_id, details)
    SELECT i.audit_id, $3, 'delivery.dismiss', 'delivery', c.id::text, 'dismissed', $4,
        jsonb_build_object('message', c.message_id, 'route', c.route, 'reason', $5::text)
    FROM changed c JOIN i ON i.id = c.id
)
SELECT id FROM changed
"""

# The next delivery of the same subject no longer waits for the cancelled one, so it is pointed to.
CANCEL: Final = """
WITH i AS (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS i (id, audit_id)),
changed AS (
    UPDATE delivery d SET state = 'cancelled', reason = $5, next_at = NULL, ended_at = now(),
        code = CASE WHEN d.code = 'outcome-unknown' THEN d.code ELSE 'cancelled' END
    FROM i WHERE d.id = i.id AND d.state IN ('queued', 'waiting')
    RETURNING d.id, d.message_id, d.route, d.order_key, d.seq
), gone AS (
    DELETE FROM outbox o USING changed c WHERE o.delivery_id = c.id AND o.taken_by IS NULL
), next_in_order AS (
    SELECT DISTINCT n.id, n.message_id, n.route FROM changed c CROSS JOIN LATERAL (
        SELECT e.id, e.message_id, e.route FROM delivery e
        WHERE e.route = c.route AND e.order_key = c.order_key AND e.ended_at IS NULL AND e.seq > c.seq
          AND e.id <> ALL ($1::uuid[])
        ORDER BY e.seq LIMIT 1
    ) n WHERE c.order_key IS NOT NULL
), pointed AS (
    INSERT INTO outbox (delivery_id, message_id, route, traceparent)
    SELECT n.id, n.message_id, n.route, m.traceparent FROM next_in_order n LEFT JOIN message m ON m.id = n.message_id
    RETURNING route
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, request_id, details)
    SELECT i.audit_id, $3, 'delivery.cancel', 'delivery', c.id::text, 'cancelled', $4,
        jsonb_build_object('message', c.message_id, 'route', c.route, 'reason', $5::text)
    FROM changed c JOIN i ON i.id = c.id
), woken AS (
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM pointed) AS routes
)
SELECT id, (SELECT count(*) FROM woken) AS woken FROM changed
"""

# A message is taken back whole or not at all: each of its deliveries that pays was certainly never sent. The rows are locked
# first, so that a worker's claim either came before, and is seen, or finds them cancelled. A dead letter is among them, and
# counting a replay stops one that was just asked for.
WITHDRAW: Final = """
WITH held AS MATERIALIZED (
    SELECT d.id, d.message_id, d.route, d.order_key, d.seq, d.state, d.ended_at,
        d.state IN ('queued', 'waiting', 'dead', 'cancelled') AND d.code IS DISTINCT FROM 'outcome-unknown'
            AND coalesce((SELECT a.outcome FROM attempt a WHERE a.delivery_id = d.id AND a.outcome NOT IN ('retry', 'defect')
                ORDER BY a.number DESC LIMIT 1), 'asked') NOT IN ('unknown', 'abandoned', 'delivered', 'refused') AS unsent
    FROM delivery d WHERE d.message_id = ANY ($1::uuid[]) AND d.route <> ALL ($2::text[]) ORDER BY d.id FOR UPDATE
), whole AS (
    SELECT message_id FROM held GROUP BY message_id HAVING bool_and(unsent)
), changed AS (
    UPDATE delivery d SET state = 'cancelled', code = 'withdrawn', reason = $4, next_at = NULL, replays = d.replays + 1,
        ended_at = coalesce(d.ended_at, now())
    FROM held h JOIN whole USING (message_id) WHERE d.id = h.id
    RETURNING d.id, d.message_id, d.route, d.order_key, d.seq, h.ended_at AS ended_before
), gone AS (
    DELETE FROM outbox o USING changed c WHERE o.delivery_id = c.id AND o.taken_by IS NULL
), next_in_order AS (
    SELECT DISTINCT n.id, n.message_id, n.route FROM changed c CROSS JOIN LATERAL (
        SELECT e.id, e.message_id, e.route FROM delivery e
        WHERE e.route = c.route AND e.order_key = c.order_key AND e.ended_at IS NULL AND e.seq > c.seq
          AND e.id <> ALL (ARRAY(SELECT id FROM changed))
        ORDER BY e.seq LIMIT 1
    ) n WHERE c.order_key IS NOT NULL AND c.ended_before IS NULL
), pointed AS (
    INSERT INTO outbox (delivery_id, message_id, route, traceparent)
    SELECT n.id, n.message_id, n.route, m.traceparent FROM next_in_order n LEFT JOIN message m ON m.id = n.message_id
    RETURNING route
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, details)
    SELECT ($5::uuid[])[row_number() OVER (ORDER BY message_id)], $3, 'message.withdraw', 'message', message_id::text,
        'withdrawn', jsonb_build_object('reason', $4::text)
    FROM whole
), woken AS (
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM pointed) AS routes
)
SELECT DISTINCT message_id, (SELECT count(*) FROM woken) AS woken FROM whole
"""
