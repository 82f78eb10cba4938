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
