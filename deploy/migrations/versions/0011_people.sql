-- People: when each membership was said, and what changed of whom.

-- The time of the fact each part of a membership comes from: an older one that arrives late changes nothing of it.
ALTER TABLE membership ADD COLUMN start_said_at timestamptz, ADD COLUMN end_said_at timestamptz,
    ADD COLUMN roles_said_at timestamptz;

-- Each version of a registrant: who made it, and what it changed. It outlives the registrant, so it refers to none.
CREATE TABLE registrant_change (
    registrant_id uuid NOT NULL,
    version       integer NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    actor         text NOT NULL,
    source        text NOT NULL,
    message_id    uuid,
    request_id    text,
    fields        text[] NOT NULL DEFAULT '{}',  -- names of what changed; empty for a first version: all of it is new
    clear         jsonb,                         -- old and new value of each field that lies in clear
    key_id        bigint,
    sealed        bytea,                         -- old and new value of each field that lies sealed
    PRIMARY KEY (registrant_id, version),
    CHECK ((key_id IS NULL) = (sealed IS NULL))
);
CREATE INDEX registrant_change_at ON registrant_change USING brin (at);
CREATE INDEX registrant_change_key ON registrant_change (key_id) WHERE key_id IS NOT NULL;
CREATE TRIGGER registrant_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registrant_change
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();

-- Code lists: ISO's, which come with the hub, and a country's own.
CREATE TABLE vocabulary (
    namespace  text PRIMARY KEY CHECK (namespace ~ '^urn:[a-z0-9][a-z0-9-]*:[a-z0-9._-]+(:[a-z0-9._-]+)*$'),
    names      jsonb NOT NULL,                 -- display by language tag
    standard   boolean NOT NULL DEFAULT false, -- comes with the hub, and is changed with it alone
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE vocabulary_code (
    namespace text NOT NULL REFERENCES vocabulary (namespace) ON DELETE CASCADE,
    code      text NOT NULL,
    names     jsonb NOT NULL,
    active    boolean NOT NULL DEFAULT true,   -- false for a code that old records have and new ones may not
    PRIMARY KEY (namespace, code)
);

-- What the values of an identifier look like, by its type: its namespace where it has one, else its id type.
CREATE TABLE identifier_type (
    type        text PRIMARY KEY,
    names       jsonb NOT NULL,
    kind        text CHECK (kind IN ('individual', 'group')),  -- whom it identifies; null for both
    pattern     text,                          -- regular expression of the whole normalised value
    check_digit text,                          -- algorithm
    active      boolean NOT NULL DEFAULT true, -- false: no new identifiers of this type
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE relationship_type (
    code             text PRIMARY KEY CHECK (code ~ '^[a-z][a-z0-9_]{0,63}$'),
    names            jsonb NOT NULL,           -- what the source is to the destination
    inverse_names    jsonb NOT NULL,           -- what the destination is to the source
    bidirectional    boolean NOT NULL DEFAULT false,
    source_kind      text CHECK (source_kind IN ('individual', 'group')),
    destination_kind text CHECK (destination_kind IN ('individual', 'group')),
    active           boolean NOT NULL DEFAULT true,
    CHECK (NOT bidirectional OR (names = inverse_names AND source_kind IS NOT DISTINCT FROM destination_kind))
);
CREATE TABLE relationship (
    id             uuid PRIMARY KEY,
    type           text NOT NULL REFERENCES relationship_type (code),
    source_id      uuid NOT NULL REFERENCES registrant (id) ON DELETE CASCADE,
    destination_id uuid NOT NULL REFERENCES registrant (id) ON DELETE CASCADE,
    start_date     date NOT NULL DEFAULT '-infinity',
    end_date       date,                       -- the first day it no longer holds
    actor          text NOT NULL,
    source         text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (source_id <> destination_id),
    CHECK (end_date >= start_date)
);
CREATE UNIQUE INDEX relationship_once ON relationship (type, source_id, destination_id) WHERE end_date IS NULL;
CREATE INDEX relationship_source ON relationship (source_id);
CREATE INDEX relationship_destination ON relationship (destination_id);

-- Documents by reference: the content lies sealed in the object store, never here.
CREATE TABLE document (
    id            uuid PRIMARY KEY,
    registrant_id uuid NOT NULL REFERENCES registrant (id),
    kind          text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,63}$'),
    media_type    text NOT NULL,
    size          bigint NOT NULL,
    digest        bytea NOT NULL,              -- keyed hash of the content
    key_id        bigint NOT NULL,
    actor         text NOT NULL,
    source        text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    removed_at    timestamptz,
    removed_by    text,
    CHECK ((removed_at IS NULL) = (removed_by IS NULL))
);
CREATE INDEX document_registrant ON document (registrant_id, id);

-- What facts of a day there are, and what data each holds, in clear: nothing that says who somebody is.
CREATE TABLE event_type (
    type       text PRIMARY KEY CHECK (type ~ '^[a-z][a-z0-9_.-]{0,99}$'),
    names      jsonb NOT NULL,
    schema     jsonb NOT NULL,                 -- JSON Schema of the data
    lasts_days integer CHECK (lasts_days > 0), -- how long such a fact is held true when it does not say so itself
    active     boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);
