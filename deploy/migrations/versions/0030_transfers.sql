-- The ledger of transfers: what is known of each payment on its way through a rail, and what a batch of them must come to.
CREATE TABLE transfer_batch (
    id            uuid PRIMARY KEY,
    target        text NOT NULL,
    batch_id      text NOT NULL,              -- '' gathers the single payments of a target, and never closes
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopped', 'closed')),
    reason        text,                       -- the rail's code, of a stopped batch
    currency      text,
    ordered       bigint CHECK (ordered > 0), -- null until all of it is entered
    ordered_units bigint CHECK (ordered_units > 0),
    paid          bigint NOT NULL DEFAULT 0,
    failed        bigint NOT NULL DEFAULT 0,
    unknown       bigint NOT NULL DEFAULT 0,
    cancelled     bigint NOT NULL DEFAULT 0,
    paid_units      bigint NOT NULL DEFAULT 0,
    failed_units    bigint NOT NULL DEFAULT 0,
    unknown_units   bigint NOT NULL DEFAULT 0,
    cancelled_units bigint NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    closed_at     timestamptz,
    UNIQUE (target, batch_id),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    -- A batch closes only when its sums say so, to the minor unit.
    CHECK (state <> 'closed' OR (ordered IS NOT NULL AND ordered_units IS NOT NULL
        AND paid + failed + unknown + cancelled = ordered
        AND paid_units + failed_units + unknown_units + cancelled_units = ordered_units))
);
CREATE INDEX transfer_batch_open ON transfer_batch (target, id) WHERE state <> 'closed';

CREATE TABLE transfer (
    id             uuid PRIMARY KEY,
    batch          uuid NOT NULL REFERENCES transfer_batch (id),
    target         text NOT NULL,
    payment_id     text NOT NULL,
    cycle_id       text,
    institution    text,                      -- of the payee, null until known
    stage          text NOT NULL DEFAULT 'lookup',
    state          text NOT NULL DEFAULT 'queued' CHECK (state IN
        ('queued', 'working', 'sent', 'unknown', 'review', 'paid', 'failed', 'cancelled')),
    units          bigint NOT NULL CHECK (units > 0),
    currency       text NOT NULL,
    charged        bigint,                    -- what the payer is charged, once a rail said it
    fee            bigint,
    refs           jsonb NOT NULL DEFAULT '{}',  -- by kind, each sealed: they may name a person
    key_id         bigint NOT NULL,
    instruction    bytea NOT NULL,
    request_key_id bigint,
    request        bytea,                     -- exact bytes of the last request, sealed
    condition      text,
    asked          integer NOT NULL DEFAULT 0,
    resent         integer NOT NULL DEFAULT 0,
    reason         text,
    rail_reference text,
    sent_at        timestamptz,
    due_at         timestamptz,
    leased_until   timestamptz NOT NULL DEFAULT '-infinity',
    completed_at   timestamptz,
    report         boolean NOT NULL DEFAULT false,
    reported_at    timestamptz,
    decided_by     text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    trail          text[] NOT NULL DEFAULT '{}',  -- the last steps: time, stage, state, code
    UNIQUE (target, payment_id),
    CHECK ((request IS NULL) = (request_key_id IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX transfer_queued ON transfer (batch, stage, institution, id) WHERE state = 'queued';
CREATE INDEX transfer_under_way ON transfer (target, institution, stage) WHERE state IN ('working', 'sent');
CREATE INDEX transfer_due ON transfer (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX transfer_live ON transfer (batch) WHERE state IN ('queued', 'working', 'sent');
CREATE INDEX transfer_unclear ON transfer (target, sent_at) WHERE state IN ('unknown', 'review');
CREATE INDEX transfer_report ON transfer (target, batch) WHERE report;
CREATE INDEX transfer_batch_rows ON transfer (batch);
CREATE INDEX transfer_cycle ON transfer (cycle_id) WHERE cycle_id IS NOT NULL;

-- Every reference a transfer ever had, by blind index: a callback names one of them.
CREATE TABLE transfer_reference (
    transfer_id uuid NOT NULL REFERENCES transfer (id) ON DELETE CASCADE,
    target      text NOT NULL,
    hash        bytea NOT NULL,
    PRIMARY KEY (target, hash, transfer_id)
);
CREATE INDEX transfer_reference_transfer ON transfer_reference (transfer_id);

-- Messages all of whose payments are entered, so that a redelivery is known without reading its rows.
CREATE TABLE transfer_message (
    target     text NOT NULL,
    message_id uuid NOT NULL,
    entered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, message_id)
);

-- Targets that are stopped as a whole.
CREATE TABLE transfer_stop (
    target     text PRIMARY KEY,
    reason     text NOT NULL,
    stopped_at timestamptz NOT NULL DEFAULT now()
);
