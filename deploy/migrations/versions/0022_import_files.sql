-- Files that were handed in to be imported; their parts lie sealed in the object store.
CREATE TABLE import_file (
    id         uuid PRIMARY KEY,
    format     text NOT NULL CHECK (format IN ('csv', 'xlsx', 'ndjson')),
    encoding   text,
    sheet      text,
    size       bigint NOT NULL CHECK (size > 0),
    parts      integer NOT NULL CHECK (parts > 0),
    key_id     bigint NOT NULL,
    actor      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX import_file_actor ON import_file (actor, id);
CREATE INDEX import_file_age ON import_file (created_at);
