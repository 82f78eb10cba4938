-- The account mapper: which financial address an id is paid at.
CREATE TABLE account_link (
    id         uuid PRIMARY KEY,
    id_hash    bytea NOT NULL,                -- blind index of the id
    fa_hash    bytea NOT NULL,                -- blind index of the financial address
    strategy   text NOT NULL,                 -- how the address is written
    valid_from timestamptz NOT NULL DEFAULT now(),
    valid_to   timestamptz,                   -- null: until it is ended
    linked_by  text NOT NULL,
    linked_at  timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,                   -- null while the link stands
    ended_by   text,
    ended_how  text CHECK (ended_how IN ('updated', 'unlinked', 'expired')),
    key_id     bigint NOT NULL,
    sealed     bytea NOT NULL,                -- id, address and what came with them
    CHECK (valid_to IS NULL OR valid_to > valid_from),
    CHECK ((ended_at IS NULL) = (ended_how IS NULL))
);
-- An id has one link at a time; those that ended stay as its history.
CREATE UNIQUE INDEX account_link_standing ON account_link (id_hash) WHERE ended_at IS NULL;
CREATE INDEX account_link_address ON account_link (fa_hash) WHERE ended_at IS NULL;
CREATE INDEX account_link_history ON account_link (id_hash, id);

-- How ids and financial addresses are written, as data.
CREATE TABLE account_strategy (
    name       text PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('id', 'fa')),
    spec       jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
