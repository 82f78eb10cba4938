ALTER TABLE job
    ADD COLUMN attempts     smallint NOT NULL DEFAULT 0,   -- claims since anything was saved
    ADD COLUMN next_at      timestamptz,                   -- not before
    ADD COLUMN claimed_at   timestamptz,
    ADD COLUMN claimed_done bigint NOT NULL DEFAULT 0;     -- what was done when it was claimed: speed is counted from there
CREATE INDEX job_newest ON job (id DESC);

-- The first answer to a create with an Idempotency-Key; a repeat gets it again for a day.
CREATE TABLE idempotency_key (
    partner   text NOT NULL,
    key_hash  bytea NOT NULL,                  -- keyed hash of operation and key
    body_hash bytea NOT NULL,                  -- keyed hash of the body: the same key with another body is refused
    status    smallint,                        -- null while the first is under way
    location  text,
    key_id    bigint,
    sealed    bytea,                           -- the answer's body
    made_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partner, key_hash)
);
CREATE INDEX idempotency_key_age ON idempotency_key USING brin (made_at);

-- What a person allowed whom to do for what (states of ISO/IEC TS 27560).
CREATE TABLE consent (
    id            uuid PRIMARY KEY,
    registrant_id uuid NOT NULL REFERENCES registrant (id) ON DELETE CASCADE,
    recipient     text NOT NULL,               -- the partner it covers
    purpose       text NOT NULL,
    status        text NOT NULL CHECK (status IN
                  ('requested', 'given', 'refused', 'renewed', 'withdrawn', 'expired', 'invalidated')),
    status_at     timestamptz NOT NULL DEFAULT now(),
    valid_from    timestamptz,
    valid_until   timestamptz,
    legal_basis   text,
    source        text NOT NULL,
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (valid_until >= valid_from)
);
CREATE INDEX consent_person ON consent (registrant_id, recipient, purpose, status_at DESC);

-- Areas and codes are changed over the API by those who saw their last version, so every change counts, whoever makes it.
ALTER TABLE area ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE vocabulary_code ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE FUNCTION next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER area_version BEFORE UPDATE ON area FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();
CREATE TRIGGER vocabulary_code_version BEFORE UPDATE ON vocabulary_code FOR EACH ROW
    WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION next_version();

-- Who saw a record also through a search: the ids it showed stand in the details of its one event.
CREATE INDEX audit_event_shown ON audit_event USING gin ((details -> 'shown')) WHERE action = 'registrant.search';

-- The one text a term is known by, as OpenSPP writes it: urn:openspp:vocab:id-type#passport
CREATE UNIQUE INDEX vocabulary_code_id ON vocabulary_code ((namespace || '#' || code));
