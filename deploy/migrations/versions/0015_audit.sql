-- The sealed audit trail. Events are sealed a window of transactions at a time: once no transaction below a number is open,
-- no event of a smaller number can come any more, whatever its id and whichever process made it.

-- A stable default: the events that are there already all take the number of this transaction, and nothing is rewritten.
ALTER TABLE audit_event ADD COLUMN transaction bigint NOT NULL DEFAULT txid_current();
-- Events arrive in about this order, so that a few bytes for each 32 pages are enough to find a window.
CREATE INDEX audit_event_transaction ON audit_event USING brin (transaction) WITH (pages_per_range = 32);

-- What is added to the server's number of a transaction. Restored into another server, whose numbers begin anew, the trail
-- goes on above the highest number it holds: `hub db upgrade` raises the shift and the default with it.
CREATE TABLE audit_clock (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    shift bigint NOT NULL
);
INSERT INTO audit_clock (shift) VALUES (0);

-- Also for a session that replays replication: ordinary triggers are silent there.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT 'audit_event'::regclass UNION ALL
        SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'audit_event'::regclass
    LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER audit_append_only', part);
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part AND tgname = 'audit_no_truncate') THEN
            EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER audit_no_truncate', part);
        END IF;
    END LOOP;
END $$;

-- Which key signed a checkpoint. The private part lies sealed, so that only who holds the key-encryption key can add one.
CREATE TABLE audit_key (
    kid     text PRIMARY KEY,                  -- RFC 7638 thumbprint
    public  jsonb NOT NULL,
    key_id  bigint NOT NULL,
    sealed  bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- One link of the chain: it holds for the events of transactions lower <= n < upper whose ids lie in first_id..last_id.
CREATE TABLE audit_checkpoint (
    number   bigint PRIMARY KEY,               -- 1, 2, 3 … without gaps
    lower    bigint NOT NULL,
    upper    bigint NOT NULL,
    closed   boolean NOT NULL,                 -- whether this is the last part of its window
    first_id uuid NOT NULL,
    last_id  uuid NOT NULL,
    count    integer NOT NULL CHECK (count > 0),
    late     integer NOT NULL,                 -- events with an id below one that an earlier window holds
    leaves   bytea NOT NULL,                   -- for each event in the order of ids: id (16 bytes), SHA-256 (32 bytes)
    signed   text NOT NULL,                    -- compact JWS (ES256) over all of this and the link before
    made_at  timestamptz NOT NULL,
    CHECK (lower < upper),
    CHECK (length(leaves) = 48 * count)
);
ALTER TABLE audit_checkpoint ALTER COLUMN leaves SET STORAGE EXTERNAL;
CREATE INDEX audit_checkpoint_ids ON audit_checkpoint (last_id);

-- Old and new values of a change, for an auditor; details.sealed of the event is the SHA-256 of `sealed`.
CREATE TABLE audit_sealed (
    event_id uuid PRIMARY KEY,
    key_id   bigint NOT NULL,
    sealed   bytea NOT NULL
);

-- Keys are sealed anew when data keys are replaced, so they may change; nothing else here may.
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_append_only;
CREATE TRIGGER audit_sealed_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_sealed
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_append_only;
