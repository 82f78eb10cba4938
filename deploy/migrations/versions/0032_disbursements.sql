-- Payments that partners order in a standard's own words (G2P Connect disburse, GovStack Payments), and what they asked for.
CREATE TABLE disbursement (
    id               uuid PRIMARY KEY,           -- also the id of the payment in the ledger
    partner          text NOT NULL,
    transaction_hash bytea NOT NULL,
    reference_hash   bytea NOT NULL,
    body_hash        bytea NOT NULL,             -- by which a repeat is told from another order under the same reference
    payer_hash       bytea,
    payee_hash       bytea,
    message_id       uuid NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    key_id           bigint NOT NULL,
    sealed           bytea NOT NULL,             -- the order as its sender wrote it
    -- One reference of a transaction is paid once, whatever comes again.
    UNIQUE (partner, transaction_hash, reference_hash)
);
CREATE INDEX disbursement_reference ON disbursement (partner, reference_hash);
CREATE INDEX disbursement_payer ON disbursement (partner, payer_hash, id);
CREATE INDEX disbursement_payee ON disbursement (partner, payee_hash, id);

-- One request of a partner: what was said to each of its items, and the callback it still waits for.
CREATE TABLE disbursement_request (
    id               uuid PRIMARY KEY,           -- the correlation id its sender is told
    partner          text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('disburse', 'search', 'status', 'validate', 'register', 'update',
                                                    'link', 'unlink', 'resolve', 'mapper_update', 'mapper_status')),
    origin_hash      bytea NOT NULL,
    body_hash        bytea NOT NULL,
    transaction_hash bytea NOT NULL,
    received_at      timestamptz NOT NULL DEFAULT now(),
    due_at           timestamptz,                -- of the next try to call back; null once told, or when nobody is to be told
    attempts         integer NOT NULL DEFAULT 0,
    told_at          timestamptz,
    key_id           bigint NOT NULL,
    sealed           bytea NOT NULL,             -- the request's own words, its answers, and where to call back
    UNIQUE (partner, origin_hash)
);
CREATE INDEX disbursement_request_transaction ON disbursement_request (partner, transaction_hash);
CREATE INDEX disbursement_request_due ON disbursement_request (due_at) WHERE due_at IS NOT NULL;
