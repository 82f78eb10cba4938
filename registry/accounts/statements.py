"""The statements of the account mapper: each takes a whole list at once."""

from __future__ import annotations

from typing import Final

# Rows are locked in the order of their hashes, so that two lists of the same ids do not wait for each other in a ring.
EXPIRE: Final = """
WITH past AS (
    SELECT id FROM account_link WHERE id_hash = ANY ($1::bytea[]) AND ended_at IS NULL AND valid_to <= now()
    ORDER BY id_hash FOR UPDATE
)
UPDATE account_link l SET ended_at = l.valid_to, ended_by = $2, ended_how = 'expired' FROM past WHERE l.id = past.id
"""

ENTER: Final = """
INSERT INTO account_link (id, id_hash, fa_hash, strategy, valid_from, valid_to, linked_by, key_id, sealed)
SELECT i.id, i.id_hash, i.fa_hash, i.strategy, coalesce(i.valid_from, now()), i.valid_to, $1, $2, i.sealed
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::bytea[])
    AS i (id, id_hash, fa_hash, strategy, valid_from, valid_to, sealed)
ORDER BY i.id_hash
ON CONFLICT (id_hash) WHERE ended_at IS NULL DO NOTHING RETURNING id
"""

# An address that is given has to be the linked one.
END: Final = """
WITH standing AS (
    SELECT l.id FROM account_link l JOIN unnest($1::bytea[], $2::bytea[]) AS i (id_hash, fa_hash) ON i.id_hash = l.id_hash
    WHERE l.ended_at IS NULL AND (i.fa_hash IS NULL OR i.fa_hash = l.fa_hash) ORDER BY l.id_hash FOR UPDATE OF l
)
UPDATE account_link l SET ended_at = greatest(now(), l.linked_at), ended_by = $3, ended_how = $4 FROM standing
WHERE l.id = standing.id RETURNING l.id, l.id_hash
"""

_HOLDS: Final = "l.valid_from <= now() AND (l.valid_to IS NULL OR l.valid_to > now())"

# An address may be that of many ids: one of them is enough to know that it is in use.
RESOLVE: Final = f"""
SELECT 'link' AS source, l.id, l.id_hash AS hash, l.fa_hash, l.key_id, 0 AS form, l.sealed, {_HOLDS} AS holds
FROM account_link l WHERE l.id_hash = ANY ($1::bytea[]) AND l.ended_at IS NULL
UNION ALL
SELECT 'address', f.id, f.fa_hash, f.fa_hash, f.key_id, 0, f.sealed, f.holds
FROM unnest($2::bytea[]) AS i (fa_hash), LATERAL (
    SELECT l.id, l.fa_hash, l.key_id, l.sealed, {_HOLDS} AS holds FROM account_link l
    WHERE l.fa_hash = i.fa_hash AND l.ended_at IS NULL ORDER BY {_HOLDS} DESC LIMIT 1
) f
UNION ALL
SELECT 'record', r.id, i.hash, NULL, v.key_id, v.format, v.sealed, r.status = 'active'
FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
    JOIN registrant_vault v ON v.registrant_id = r.id
WHERE i.hash = ANY ($3::bytea[]) AND i.live
    AND NOT EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = r.id)
"""

LISTED: Final = f"""
SELECT l.id, l.strategy, l.valid_from, l.valid_to, l.linked_by, l.linked_at, l.ended_at, l.ended_by, l.ended_how,
    CASE WHEN l.ended_at IS NOT NULL THEN 'ended' WHEN {_HOLDS} THEN 'active' ELSE 'inactive' END AS state,
    l.key_id, l.sealed
FROM account_link l
WHERE ($1::uuid IS NULL OR l.id > $1) AND ($2::bytea IS NULL OR l.id_hash = $2) AND ($3 OR l.ended_at IS NULL)
ORDER BY l.id LIMIT $4
"""

STRATEGIES: Final = "SELECT name, kind, spec FROM account_strategy ORDER BY name"

APPLY: Final = """
INSERT INTO account_strategy (name, kind, spec)
SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, spec = excluded.spec, updated_at = now()
"""
