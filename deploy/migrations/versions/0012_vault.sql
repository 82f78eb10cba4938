-- Registrants whose identity data stays at an ID system: the hub keeps what it asks with, sealed, and when it last heard.
CREATE TABLE registrant_reference (
    registrant_id uuid PRIMARY KEY REFERENCES registrant (id) ON DELETE CASCADE,
    system        text NOT NULL,               -- the ID system, as the question's route knows it
    key_id        bigint NOT NULL,
    sealed        bytea NOT NULL,              -- the ID system's token for the person
    confirmed_at  timestamptz NOT NULL,        -- when the ID system last knew the token
    unknown_since timestamptz,                 -- when it first said that it does not, after it had
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX registrant_reference_key ON registrant_reference (key_id);
CREATE INDEX registrant_reference_confirmed ON registrant_reference (system, confirmed_at);

-- How a row's tokens were made. A later way raises the default; `hub db tokens` makes those of before anew.
ALTER TABLE registrant_search ADD COLUMN made smallint NOT NULL DEFAULT 1;

-- What a search by name is narrowed by, in clear as in `registrant`: the year of birth, and the area's id as a negative number.
-- One index for both, so that a common name in one area or of one year is found without reading all who bear it.
ALTER TABLE registrant_search ADD COLUMN facets integer[] NOT NULL DEFAULT '{}';
DROP INDEX registrant_search_names;
CREATE INDEX registrant_search_names ON registrant_search USING gin (names, facets);
