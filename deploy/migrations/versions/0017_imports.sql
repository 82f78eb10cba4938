-- Imports: what the columns of files mean, and the rows that could not be taken, sealed, to be corrected and sent again.
CREATE TABLE import_mapping (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    mapping    jsonb NOT NULL,
    actor      text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE import_problem (
    job_id     uuid NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    row_number integer NOT NULL,
    key_id     bigint NOT NULL,
    sealed     bytea NOT NULL,                 -- the cells as the file has them, JSON
    problems   jsonb NOT NULL,                 -- code, column and sentence; no value of the row
    PRIMARY KEY (job_id, row_number)
);
