-- What a driver takes is found by indexes in the very order in which it is given out, however large the batch and before it
-- was ever analyzed. As many indexes as before: what has not begun is in one of its own and no longer in that of the rest.
DROP INDEX transfer_queued;
CREATE INDEX transfer_first ON transfer (batch, id) WHERE state = 'queued' AND stage = 'lookup';
CREATE INDEX transfer_queued ON transfer (batch, stage, (coalesce(institution, '')), id)
    WHERE state = 'queued' AND stage <> 'lookup';
DROP INDEX transfer_under_way;
CREATE INDEX transfer_under_way ON transfer (target, stage) WHERE state IN ('working', 'sent');
-- Sealed values do not get smaller: trying to compress them at every step is work for nothing.
ALTER TABLE transfer ALTER COLUMN instruction SET STORAGE EXTERNAL, ALTER COLUMN request SET STORAGE EXTERNAL;
