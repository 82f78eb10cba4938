-- What rails charge for paying, taken from the fund a program pays from: first charged, then taken as far as the fund holds
-- enough; the rest stays due, in sight, and never touches what is reserved for people.
ALTER TABLE fund
    ADD COLUMN fees_by  text NOT NULL DEFAULT 'program' CHECK (fees_by IN ('program', 'payee')),
    ADD COLUMN fees     bigint NOT NULL DEFAULT 0 CHECK (fees >= 0),
    ADD COLUMN fees_due bigint NOT NULL DEFAULT 0 CHECK (fees_due >= 0),
    DROP CONSTRAINT fund_overdrawn,
    ADD CONSTRAINT fund_overdrawn CHECK (reserved + spent + fees <= deposited);
ALTER TABLE fund_entry
    DROP CONSTRAINT fund_entry_kind_check,
    ADD CONSTRAINT fund_entry_kind_check CHECK (kind IN
        ('deposit', 'withdraw', 'reserve', 'release', 'spend', 'return', 'refund', 'charge', 'fee')),
    DROP CONSTRAINT fund_entry_check,
    ADD CONSTRAINT fund_entry_of_cycle CHECK ((cycle_id IS NULL) = (kind IN ('deposit', 'withdraw', 'fee')));
CREATE OR REPLACE FUNCTION fund_entry_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The cycle first, then the fund, as everybody else does: nobody waits for the other in a circle.
    UPDATE cycle c SET reserved = c.reserved + s.reserved, spent = c.spent + s.spent
    FROM (SELECT cycle_id,
            sum(CASE kind WHEN 'reserve' THEN amount WHEN 'return' THEN amount WHEN 'release' THEN -amount
                WHEN 'spend' THEN -amount ELSE 0 END) AS reserved,
            sum(CASE kind WHEN 'spend' THEN amount WHEN 'return' THEN -amount WHEN 'refund' THEN -amount ELSE 0 END) AS spent
        FROM added WHERE cycle_id IS NOT NULL GROUP BY cycle_id ORDER BY cycle_id) s WHERE c.id = s.cycle_id;
    UPDATE fund f SET deposited = f.deposited + s.deposited, reserved = f.reserved + s.reserved, spent = f.spent + s.spent,
        fees = f.fees + s.fees, fees_due = f.fees_due + s.due, updated_at = now()
    FROM (SELECT fund_id,
            sum(CASE kind WHEN 'deposit' THEN amount WHEN 'withdraw' THEN -amount ELSE 0 END) AS deposited,
            sum(CASE kind WHEN 'reserve' THEN amount WHEN 'return' THEN amount WHEN 'release' THEN -amount
                WHEN 'spend' THEN -amount ELSE 0 END) AS reserved,
            sum(CASE kind WHEN 'spend' THEN amount WHEN 'return' THEN -amount WHEN 'refund' THEN -amount ELSE 0 END) AS spent,
            sum(CASE kind WHEN 'fee' THEN amount ELSE 0 END) AS fees,
            sum(CASE kind WHEN 'charge' THEN amount WHEN 'fee' THEN -amount ELSE 0 END) AS due
        FROM added GROUP BY fund_id ORDER BY fund_id) s WHERE f.id = s.fund_id;
    RETURN NULL;
END $$;
DROP TRIGGER fund_moves_by_entries ON fund;
CREATE TRIGGER fund_moves_by_entries BEFORE UPDATE OF deposited, reserved, spent, fees, fees_due ON fund FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION fund_moves_by_entries();

DROP VIEW fund_reconciliation;
CREATE VIEW fund_reconciliation AS
SELECT f.id AS fund_id, f.code, f.currency, f.deposited, f.reserved, f.spent, f.fees_by, f.fees, f.fees_due,
    f.deposited - f.reserved - f.spent - f.fees AS available,
    coalesce(sum(r.ordered), 0)::bigint AS ordered, coalesce(sum(r.paid), 0)::bigint AS paid,
    coalesce(sum(r.failed), 0)::bigint AS failed, coalesce(sum(r.unknown), 0)::bigint AS unknown,
    coalesce(sum(r.cancelled), 0)::bigint AS cancelled, coalesce(sum(r.returned), 0)::bigint AS returned,
    coalesce(sum(r.fees), 0)::bigint AS fees_told,
    coalesce(bool_and(r.balanced), true) AND f.spent = coalesce(sum(r.spent), 0)
        AND f.reserved = coalesce(sum(r.reserved), 0) AND f.fees + f.fees_due <= coalesce(sum(r.fees), 0) AS balanced
FROM fund f LEFT JOIN (SELECT r.*, c.fund_id FROM cycle_reconciliation r JOIN cycle c ON c.id = r.cycle_id) r ON r.fund_id = f.id
GROUP BY f.id;
