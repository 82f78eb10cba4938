-- Several rails for one payment: each attempt is a transfer of its own, and of those of a payment one counts.
ALTER TABLE transfer
    ADD COLUMN rails      text,                            -- the route that chose among rails, null where there was no choice
    ADD COLUMN whole      uuid REFERENCES transfer_batch (id), -- the batch over all its rails
    ADD COLUMN attempt    smallint NOT NULL DEFAULT 1 CHECK (attempt BETWEEN 1 AND 100),
    ADD COLUMN superseded boolean NOT NULL DEFAULT false,  -- failed, and ordered at another rail since
    ADD CONSTRAINT transfer_rails_whole CHECK ((rails IS NULL) = (whole IS NULL)),
    ADD CONSTRAINT transfer_superseded_rails CHECK (rails IS NOT NULL OR NOT superseded);
-- A payment is on one rail at a time, whoever chooses and however often it is ordered.
CREATE UNIQUE INDEX transfer_on_one_rail ON transfer (rails, payment_id) WHERE rails IS NOT NULL AND NOT superseded;
CREATE INDEX transfer_attempts ON transfer (rails, payment_id) WHERE rails IS NOT NULL;
CREATE INDEX transfer_whole_rows ON transfer (whole) WHERE whole IS NOT NULL;
CREATE INDEX transfer_whole_live ON transfer (whole)
    WHERE whole IS NOT NULL AND NOT superseded AND (report OR state IN ('queued', 'working', 'sent'));

-- What a batch orders that another batch ordered first counts there, so that neither stays open.
ALTER TABLE transfer_batch
    ADD COLUMN over_rails      boolean NOT NULL DEFAULT false,
    ADD COLUMN elsewhere       bigint NOT NULL DEFAULT 0 CHECK (elsewhere >= 0),
    ADD COLUMN elsewhere_units bigint NOT NULL DEFAULT 0 CHECK (elsewhere_units >= 0),
    DROP CONSTRAINT transfer_batch_check1,
    ADD CONSTRAINT transfer_batch_sums CHECK (state <> 'closed' OR (ordered IS NOT NULL AND ordered_units IS NOT NULL
        AND paid + failed + unknown + cancelled + elsewhere = ordered
        AND paid_units + failed_units + unknown_units + cancelled_units + elsewhere_units = ordered_units));
