-- Change requests: what was asked for (sealed), who agreed, what was done and how it can be undone.
CREATE TABLE change_request (
    id         uuid PRIMARY KEY,               -- UUIDv7
    type       text NOT NULL,
    state      text NOT NULL DEFAULT 'pending'
               CHECK (state IN ('draft', 'pending', 'validated', 'applied', 'rejected', 'cancelled')),
    maker      text NOT NULL,
    policy     text NOT NULL,
    steps      jsonb NOT NULL,                 -- the policy's steps as they were when it was asked for
    step       smallint NOT NULL DEFAULT 0,    -- how many steps are done
    bases      jsonb NOT NULL,                 -- registrant id to the version the maker saw
    results    jsonb,                          -- registrant id to the version it had when the change was carried out
    key_id     bigint NOT NULL,
    sealed     bytea NOT NULL,                 -- the change
    undo_key   bigint,
    undo       bytea,                          -- sealed: the change that takes it back
    undoes     uuid REFERENCES change_request (id),
    reason     text,                           -- why it was rejected or cancelled: a code, never a person's data
    conflicts  text[],                         -- names of the fields others changed meanwhile
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    applied_at timestamptz,
    CHECK ((state = 'applied') = (applied_at IS NOT NULL)),
    CHECK ((undo IS NULL) = (undo_key IS NULL)),
    CHECK (state NOT IN ('validated', 'applied') OR step = jsonb_array_length(steps))
);
CREATE INDEX change_request_open ON change_request (state, id) WHERE state IN ('draft', 'pending', 'validated');
CREATE INDEX change_request_key ON change_request (key_id);
CREATE INDEX change_request_undo_key ON change_request (undo_key) WHERE undo_key IS NOT NULL;
CREATE UNIQUE INDEX change_request_undone_once ON change_request (undoes) WHERE state NOT IN ('rejected', 'cancelled');

CREATE TABLE change_subject (
    request_id    uuid NOT NULL REFERENCES change_request (id) ON DELETE CASCADE,
    registrant_id uuid NOT NULL,
    PRIMARY KEY (request_id, registrant_id)
);
CREATE INDEX change_subject_registrant ON change_subject (registrant_id);

-- One row for each who agreed or refused; the maker is repeated here so that the database itself keeps maker and checker apart.
CREATE TABLE change_decision (
    request_id uuid NOT NULL REFERENCES change_request (id) ON DELETE CASCADE,
    step       smallint NOT NULL,
    role       text NOT NULL,
    actor      text NOT NULL,
    maker      text NOT NULL,
    agreed     boolean NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, actor),           -- nobody decides twice, in whatever role
    CHECK (actor <> maker)
);
CREATE FUNCTION change_decision_maker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What is repeated is never taken on trust.
    SELECT c.maker INTO NEW.maker FROM change_request c WHERE c.id = NEW.request_id;
    RETURN NEW;
END $$;
CREATE TRIGGER change_decision_maker BEFORE INSERT OR UPDATE ON change_decision
    FOR EACH ROW EXECUTE FUNCTION change_decision_maker();

-- Registrants that were one and the same: what went from one to the other, so that they can be parted again.
CREATE TABLE registrant_merge (
    absorbed_id uuid PRIMARY KEY REFERENCES registrant (id),
    survivor_id uuid NOT NULL REFERENCES registrant (id),
    merged_at   timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL,
    request_id  text,
    status      text NOT NULL,                 -- of the absorbed before
    brought     uuid[] NOT NULL,               -- registrants that had been merged into the absorbed before
    memberships jsonb NOT NULL,                -- rows as they were before and as they are since, by id
    key_id      bigint NOT NULL,
    sealed      bytea NOT NULL,                -- what the survivor took into its document
    CHECK (absorbed_id <> survivor_id)
);
CREATE INDEX registrant_merge_survivor ON registrant_merge (survivor_id);
CREATE INDEX registrant_merge_key ON registrant_merge (key_id);
CREATE INDEX registrant_merged_into ON registrant (merged_into) WHERE merged_into IS NOT NULL;
