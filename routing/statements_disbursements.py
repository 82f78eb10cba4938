"""The statements of disbursements."""

from __future__ import annotations

from typing import Final

ENTER: Final = """
INSERT INTO disbursement (id, partner, transaction_hash, reference_hash, body_hash, payer_hash, payee_hash, message_id, key_id,
    sealed)
SELECT i.id, $1, $2, i.reference_hash, i.body_hash, i.payer_hash, i.payee_hash, i.message_id, i.key_id, i.sealed
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::uuid[], $9::bigint[], $10::bytea[])
    AS i (id, reference_hash, body_hash, payer_hash, payee_hash, message_id, key_id, sealed)
ORDER BY i.reference_hash
ON CONFLICT (partner, transaction_hash, reference_hash) DO NOTHING
"""

KNOWN: Final = """
SELECT id, reference_hash, body_hash FROM disbursement
WHERE partner = $1 AND transaction_hash = $2 AND reference_hash = ANY ($3::bytea[])
"""

KEEP: Final = """
INSERT INTO disbursement_request (id, partner, kind, origin_hash, body_hash, transaction_hash, due_at, key_id, sealed)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7::float8), $8, $9)
ON CONFLICT (partner, origin_hash) DO NOTHING RETURNING received_at
"""

_REQUEST: Final = "id, partner, kind, body_hash, received_at, attempts, key_id, sealed"

KEPT: Final = f"SELECT {_REQUEST} FROM disbursement_request WHERE partner = $1 AND origin_hash = $2"

ALONE: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1 || encode($2::bytea, 'hex'), 0))"

OF_KIND: Final = f"""
SELECT {_REQUEST} FROM disbursement_request WHERE partner = $1 AND transaction_hash = $2 AND kind = $3 ORDER BY id LIMIT $4
"""

OF_REQUEST: Final = f"SELECT {_REQUEST} FROM disbursement_request WHERE partner = $1 AND id = $2"

OF_TRANSACTION: Final = f"""
SELECT {_REQUEST} FROM disbursement_request
WHERE partner = $1 AND transaction_hash = $2 AND kind = 'disburse' ORDER BY id LIMIT $3
"""

# Every payment ordered here is a single one, and those of a target lie in its batch without a name: so the index of
# target and payment finds them, and no further one has to be kept.
STATES: Final = """
SELECT d.id, d.created_at, d.key_id, d.sealed, t.state, t.reason, t.rail_reference, t.completed_at, t.updated_at,
    v.refused, v.open, v.code AS delivery_code
FROM disbursement d
LEFT JOIN LATERAL (
    SELECT t.state, t.reason, t.rail_reference, t.completed_at, t.updated_at FROM transfer t
    WHERE t.target = ANY (ARRAY(SELECT target FROM transfer_batch WHERE batch_id = '')) AND t.payment_id = d.id::text
        AND NOT t.superseded  -- failed at one rail and ordered at another since: the newer one says what became of it
    LIMIT 1
) t ON true
LEFT JOIN LATERAL (
    SELECT bool_and(v.state IN ('refused', 'cancelled')) AS refused, bool_or(v.state IN ('delivered', 'dead')) AS open,
        max(v.code) AS code
    FROM delivery v
    WHERE v.message_id = d.message_id AND t.state IS NULL
        AND v.route <> ALL ($3::text[])  -- a copy for somebody's files says nothing of the money
) v ON true
WHERE d.id = ANY ($1::uuid[]) AND ($2::text IS NULL OR d.partner = $2)
"""

OF_REFERENCES: Final = """
SELECT id, reference_hash FROM disbursement WHERE partner = $1 AND reference_hash = ANY ($2::bytea[]) ORDER BY id
"""

BY_PAYER: Final = (
    "SELECT id FROM disbursement WHERE partner = $1 AND payer_hash = $2 ORDER BY id DESC LIMIT $3"
)
BY_PAYEE: Final = (
    "SELECT id FROM disbursement WHERE partner = $1 AND payee_hash = $2 ORDER BY id DESC LIMIT $3"
)

DUE: Final = f"""
WITH picked AS (
    SELECT id FROM disbursement_request WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE disbursement_request r SET due_at = now() + make_interval(secs => $2::float8)
FROM picked WHERE r.id = picked.id RETURNING {", ".join(f"r.{name}" for name in _REQUEST.split(", "))}
"""

TOLD: Final = "UPDATE disbursement_request SET due_at = NULL, told_at = now() WHERE id = $1"

AGAIN: Final = """
UPDATE disbursement_request SET due_at = now() + make_interval(secs => $2::float8), attempts = attempts + $3 WHERE id = $1
"""
