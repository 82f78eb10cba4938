-- One history: `registrant_change` keeps old and new values, and the audit event that tells of a change holds a digest of its
-- row. `audit_sealed` was a second place for the same, which nothing wrote.
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit_sealed) THEN
        RAISE EXCEPTION 'audit_sealed holds values; copy the table somewhere else and empty it first';
    END IF;
END $$;
DROP TABLE audit_sealed;

-- Null for what was written before, until `hub db upgrade` takes it into the trail.
ALTER TABLE registrant_change ADD COLUMN event_id uuid;

-- A change may get another data key, and the event that holds it where it had none; nothing else of it changes.
CREATE OR REPLACE FUNCTION is_sealed_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.event_id IS NULL AND NEW.event_id IS NOT NULL
            AND to_jsonb(OLD) - 'event_id' = to_jsonb(NEW) - 'event_id' THEN
        RETURN NEW;
    END IF;
    IF OLD.sealed IS NULL OR NEW.sealed IS NULL OR OLD.key_id = NEW.key_id
            OR to_jsonb(OLD) - '{key_id,sealed}'::text[] <> to_jsonb(NEW) - '{key_id,sealed}'::text[] THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

-- Who saw a person's record includes who fetched the batches they were paid with.
CREATE INDEX payment_recipient ON payment (recipient_id);
