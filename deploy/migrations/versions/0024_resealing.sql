-- What was changed stays as it was told, and may get another data key: only `key_id` and `sealed` change, and only together.
CREATE FUNCTION is_sealed_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.sealed IS NULL OR NEW.sealed IS NULL OR OLD.key_id = NEW.key_id
            OR to_jsonb(OLD) - '{key_id,sealed}'::text[] <> to_jsonb(NEW) - '{key_id,sealed}'::text[] THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER registrant_change_append_only ON registrant_change;
CREATE TRIGGER registrant_change_append_only BEFORE DELETE OR TRUNCATE ON registrant_change
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
ALTER TABLE registrant_change ENABLE ALWAYS TRIGGER registrant_change_append_only;
CREATE TRIGGER registrant_change_sealed_anew BEFORE UPDATE ON registrant_change
    FOR EACH ROW EXECUTE FUNCTION is_sealed_anew();
ALTER TABLE registrant_change ENABLE ALWAYS TRIGGER registrant_change_sealed_anew;
