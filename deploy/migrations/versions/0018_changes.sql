-- Change requests: what was asked for (sealed), who agreed, what was done and how it can be undone.
CREATE TABLE change_request (
    id         uuid PRIMARY KEY,
    type       text NOT NULL,
    state      text NOT NULL DEFAULT 'pending'
               CHECK (state IN ('draft', 'pending', 'validated', 'applied', 'rejected', 'cancelled')),
    maker      text NOT NULL,
    policy     text NOT NULL,
    steps      jsonb NOT NULL,                 -- the policy's steps as they were when it was asked for
    step       smallint NOT NULL DEFAULT 0,    -- how many steps are done
    bases      jsonb NOT NULL,                 -- registrant id to the version the maker saw
    key_id     bigint NOT NULL,
    sealed     bytea NOT NULL,                 -- the change
    undo       bytea,                          -- sealed: the change that takes it back
    undoes     uuid REFERENCES change_request (id),
    reason     text,                           -- code of why it was rejected or cancelled
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    applied_at timestamptz,
    CHECK ((state = 'applied') = (applied_at IS NOT NULL))
);
CREATE INDEX change_request_open ON change_request (state, created_at) WHERE state IN ('draft', 'pending', 'validated');
CREATE UNIQUE INDEX change_request_undone_once ON change_request (undoes) WHERE state NOT IN ('rejected', 'cancelled');

CREATE TABLE change_subject (
    request_id    uuid NOT NULL REFERENCES change_request (id) ON DELETE CASCADE,
    registrant_id uuid NOT NULL,
    PRIMARY KEY (request_id, registrant_id)
);
CREATE INDEX change_subject_registrant ON change_subject (registrant_id);

-- One row for each who agreed or refused; the maker is repeated here so that the database itself keeps maker and checker apart.
CREATE TABLE change_decision (
    request_id uuid NOT NULL REFERENCES change_request (id) ON DELETE CASCADE,
    step       smallint NOT NULL,
    actor      text NOT NULL,
    maker      text NOT NULL,
    agreed     boolean NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, actor),           -- nobody agrees twice, in whatever role
    CHECK (actor <> maker)
);
