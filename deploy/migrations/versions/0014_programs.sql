-- Programs, from who is enrolled to what was paid. States are kept here, by triggers and unique indexes, whoever writes.
-- Tables with a row for each beneficiary refer to each other by id alone: a foreign key costs more than the row.

CREATE FUNCTION is_no_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot become % from %', TG_TABLE_NAME, NEW.state, OLD.state
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_moves';
END $$;

-- Money of programs, in minor units. Its balances are moved by its entries only, so that both always agree.
CREATE TABLE fund (
    id         uuid PRIMARY KEY,
    code       text NOT NULL UNIQUE,
    names      jsonb NOT NULL,
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    deposited  bigint NOT NULL DEFAULT 0 CHECK (deposited >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent      bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, currency),
    CONSTRAINT fund_overdrawn CHECK (reserved + spent <= deposited)
);

CREATE TABLE program (
    id          uuid PRIMARY KEY,
    code        text NOT NULL UNIQUE,
    names       jsonb NOT NULL,
    target_type text NOT NULL CHECK (target_type IN ('individual', 'group')),
    state       text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'active', 'paused', 'ended')),
    currency    text NOT NULL,
    fund_id     uuid,
    eligibility text NOT NULL,                 -- CEL: who may be enrolled
    benefit     jsonb NOT NULL,                -- kind, and amount rules in CEL or items
    managers    jsonb NOT NULL,                -- by slot: {"builtin": …} or {"route": …}
    schedule    jsonb NOT NULL DEFAULT '{}',   -- when cycles begin: start, rrule, days
    version     integer NOT NULL DEFAULT 1,
    actor       text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (fund_id, currency) REFERENCES fund (id, currency)
);
CREATE TRIGGER program_moves BEFORE UPDATE OF state ON program FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND OLD.state || '>' || NEW.state <> ALL
        ('{draft>active,active>paused,paused>active,draft>ended,active>ended,paused>ended}'))
    EXECUTE FUNCTION is_no_move();

-- Who is in which program. What a person decided is not undone by a rule. Rows are made from registrants; that these stay is
-- kept by a trigger on them, since a foreign key here doubles the time of enrolling.
CREATE TABLE enrollment (
    program_id      uuid NOT NULL,
    registrant_id   uuid NOT NULL,
    state           text NOT NULL CHECK (state IN ('draft', 'enrolled', 'paused', 'exited', 'not_eligible', 'duplicated')),
    enrollment_date date,
    exit_date       date,
    since           timestamptz NOT NULL DEFAULT now(),
    cause           text NOT NULL CHECK (cause IN ('rule', 'person')),
    reason          text,
    actor           text NOT NULL,
    PRIMARY KEY (program_id, registrant_id),
    CHECK ((exit_date IS NOT NULL) = (state = 'exited')),
    CHECK (state <> 'enrolled' OR enrollment_date IS NOT NULL)
);
CREATE INDEX enrollment_registrant ON enrollment (registrant_id);
CREATE FUNCTION enrollment_holds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM enrollment e WHERE e.registrant_id = OLD.id) THEN
        RAISE EXCEPTION 'registrant % is in a program and cannot be deleted', OLD.id
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'enrollment_holds';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER enrollment_holds BEFORE DELETE ON registrant FOR EACH ROW EXECUTE FUNCTION enrollment_holds();
CREATE FUNCTION enrollment_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an enrollment that is % is not moved by a rule', OLD.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'enrollment_stays';
END $$;
CREATE TRIGGER enrollment_stays AFTER UPDATE OF state ON enrollment FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND NEW.state = 'enrolled' AND NEW.cause = 'rule'
        AND (OLD.state IN ('paused', 'exited', 'duplicated') OR OLD.cause = 'person'))
    EXECUTE FUNCTION enrollment_stays();

-- The states an enrollment has had: from when until when, why and by whom.
CREATE TABLE enrollment_past (
    program_id    uuid NOT NULL,
    registrant_id uuid NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    state         text NOT NULL,
    cause         text NOT NULL,
    reason        text,
    actor         text NOT NULL
);
CREATE INDEX enrollment_past_place ON enrollment_past (program_id, registrant_id, until);
CREATE TRIGGER enrollment_past_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON enrollment_past
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
CREATE FUNCTION enrollment_remembers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO enrollment_past (program_id, registrant_id, since, until, state, cause, reason, actor)
    SELECT o.program_id, o.registrant_id, o.since, n.since, o.state, o.cause, o.reason, o.actor
    FROM before o JOIN after n USING (program_id, registrant_id) WHERE o.state <> n.state;
    RETURN NULL;
END $$;
CREATE TRIGGER enrollment_remembers AFTER UPDATE ON enrollment REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION enrollment_remembers();

-- One round of a program. Its row is what writers of the cycle, its entitlements and payments wait for.
CREATE TABLE cycle (
    id            uuid PRIMARY KEY,
    program_id    uuid NOT NULL REFERENCES program (id),
    sequence      integer NOT NULL CHECK (sequence BETWEEN 1 AND 100000),
    names         jsonb,
    start_date    date NOT NULL,
    end_date      date NOT NULL,
    state         text NOT NULL DEFAULT 'draft'
                  CHECK (state IN ('draft', 'to_approve', 'approved', 'distributed', 'ended', 'cancelled')),
    work          text CHECK (work IN ('snapshot', 'prepare', 'submit', 'approve', 'distribute', 'reject', 'cancel', 'end')),
    terms         jsonb NOT NULL,              -- rules, benefit and managers as they were when it was opened
    currency      text NOT NULL,
    fund_id       uuid,
    makers        text[] NOT NULL,             -- who opened, prepared or submitted it: none of them may approve it
    round         smallint NOT NULL DEFAULT 0, -- how often it was submitted
    steps         jsonb NOT NULL DEFAULT '[]', -- the approvals this round needs
    snapshot_at   timestamptz,                 -- when it was known who is in; null while that goes on
    prepared_at   timestamptz,
    beneficiaries bigint NOT NULL DEFAULT 0,
    entitlements  bigint NOT NULL DEFAULT 0,
    total         bigint NOT NULL DEFAULT 0 CHECK (total >= 0),
    largest       bigint NOT NULL DEFAULT 0,
    reserved      bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent         bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    voucher_key_id bigint,
    voucher_key   bytea,                       -- sealed
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program_id, sequence),
    FOREIGN KEY (fund_id, currency) REFERENCES fund (id, currency),
    CHECK (end_date >= start_date),
    CHECK (cardinality(makers) > 0),
    CHECK (prepared_at IS NULL OR snapshot_at IS NOT NULL),
    CHECK (state IN ('draft', 'cancelled') OR prepared_at IS NOT NULL)
);
CREATE INDEX cycle_live ON cycle (program_id) WHERE state NOT IN ('ended', 'cancelled');
CREATE TRIGGER cycle_moves BEFORE UPDATE OF state ON cycle FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND OLD.state || '>' || NEW.state <> ALL
        ('{draft>to_approve,draft>cancelled,to_approve>draft,to_approve>approved,to_approve>cancelled,approved>distributed,approved>cancelled,distributed>ended}'))
    EXECUTE FUNCTION is_no_move();

-- Two cycles of one program never cover the same day. Openers of one program follow each other.
CREATE FUNCTION cycle_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM program p WHERE p.id = NEW.program_id FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM cycle c WHERE c.program_id = NEW.program_id AND c.id <> NEW.id AND c.state <> 'cancelled'
            AND daterange(c.start_date, c.end_date, '[]') && daterange(NEW.start_date, NEW.end_date, '[]')) THEN
        RAISE EXCEPTION 'cycles of program % overlap', NEW.program_id
            USING ERRCODE = 'exclusion_violation', CONSTRAINT = 'cycle_apart';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cycle_apart_insert BEFORE INSERT ON cycle FOR EACH ROW EXECUTE FUNCTION cycle_apart();
CREATE TRIGGER cycle_apart_update BEFORE UPDATE OF start_date, end_date, program_id ON cycle
    FOR EACH ROW EXECUTE FUNCTION cycle_apart();

-- Who was in a cycle, with what entitlements are made of, as of its snapshot. Nothing in it ever changes.
CREATE TABLE cycle_beneficiary (
    cycle_id      uuid NOT NULL,
    registrant_id uuid NOT NULL,
    version       integer NOT NULL,            -- of the registrant's record: its history has the facts of then
    area_id       integer,
    members       integer,                     -- active on the first day of the cycle; null for an individual
    recipient_id  uuid,                        -- who receives; null when there is nobody who can
    amounts       bigint[] NOT NULL CHECK (0 <= ALL (amounts)), -- what each amount rule or item gives, 0 where its condition does not hold
    PRIMARY KEY (cycle_id, registrant_id)
);
CREATE TRIGGER cycle_beneficiary_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON cycle_beneficiary
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();

CREATE TABLE entitlement (
    id            uuid PRIMARY KEY,
    cycle_id      uuid NOT NULL,
    registrant_id uuid NOT NULL,
    recipient_id  uuid,
    number        integer NOT NULL,            -- within the cycle
    kind          text NOT NULL CHECK (kind IN ('cash', 'in_kind', 'voucher')),
    state         text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'pending_validation', 'approved', 'sent_to_provider',
                  'redeemed', 'rejected', 'cancelled', 'expired')),
    amount        bigint,
    topped        bigint NOT NULL DEFAULT 0 CHECK (topped >= 0),  -- added to the amount later
    paid          bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),    -- less what came back
    items         jsonb,
    tries         smallint NOT NULL DEFAULT 0, -- payments made of it
    held          text,                        -- code of why it is not to be paid now
    held_until    date,                        -- when that is looked at again
    valid_from    date NOT NULL,
    valid_until   date NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (amount > 0),
    CHECK ((amount IS NULL) = (kind = 'in_kind')),
    CHECK ((items IS NOT NULL) = (kind = 'in_kind')),
    CHECK (valid_until >= valid_from),
    CHECK (recipient_id IS NOT NULL OR held IS NOT NULL),
    CHECK (held_until IS NULL OR held IS NOT NULL)
) WITH (fillfactor = 45);                      -- each goes through several states; room in its page spares its indexes
CREATE UNIQUE INDEX entitlement_once ON entitlement (cycle_id, registrant_id);
CREATE INDEX entitlement_held ON entitlement (cycle_id, held, held_until) WHERE held IS NOT NULL;
-- After, not before: a trigger before an update locks every row first.
CREATE TRIGGER entitlement_moves AFTER UPDATE OF state ON entitlement FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND OLD.state || '>' || NEW.state <> ALL
        ('{draft>pending_validation,draft>cancelled,pending_validation>draft,pending_validation>approved,pending_validation>rejected,pending_validation>cancelled,approved>sent_to_provider,approved>cancelled,approved>expired,sent_to_provider>redeemed,sent_to_provider>approved,sent_to_provider>expired,approved>redeemed,redeemed>approved,cancelled>redeemed,expired>redeemed}'))
    EXECUTE FUNCTION is_no_move();
-- What was approved once keeps its beneficiary and its amount.
CREATE FUNCTION entitlement_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what an entitlement gives to whom stays as it was prepared'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'entitlement_stays';
END $$;
CREATE TRIGGER entitlement_stays AFTER UPDATE OF cycle_id, registrant_id, amount, items, kind ON entitlement FOR EACH ROW
    WHEN (OLD.cycle_id <> NEW.cycle_id OR OLD.registrant_id <> NEW.registrant_id OR OLD.amount IS DISTINCT FROM NEW.amount
        OR OLD.items IS DISTINCT FROM NEW.items OR OLD.kind <> NEW.kind)
    EXECUTE FUNCTION entitlement_stays();
CREATE FUNCTION entitlement_after_cycle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed e JOIN cycle c ON c.id = e.cycle_id
            WHERE e.state IN ('approved', 'sent_to_provider') AND c.state NOT IN ('approved', 'distributed')) THEN
        RAISE EXCEPTION 'an entitlement is approved with its cycle, never before'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'entitlement_after_cycle';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION entitlement_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an entitlement begins as a draft' USING ERRCODE = 'check_violation', CONSTRAINT = 'entitlement_begins';
END $$;
CREATE TRIGGER entitlement_begins AFTER INSERT ON entitlement FOR EACH ROW WHEN (NEW.state <> 'draft' OR NEW.paid <> 0)
    EXECUTE FUNCTION entitlement_begins();
CREATE TRIGGER entitlement_after_cycle_update AFTER UPDATE ON entitlement REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION entitlement_after_cycle();

-- One row for each step somebody agreed to or sent back. Two at once meet in the primary key: one effect.
CREATE TABLE cycle_approval (
    cycle_id uuid NOT NULL REFERENCES cycle (id),
    round    smallint NOT NULL,
    step     smallint NOT NULL,
    role     text NOT NULL,
    actor    text NOT NULL,
    makers   text[] NOT NULL,                  -- those of the cycle, taken over by the database itself
    agreed   boolean NOT NULL,
    reason   text,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cycle_id, round, step),
    CONSTRAINT cycle_approval_one_each UNIQUE (cycle_id, round, actor),
    CONSTRAINT cycle_approval_not_the_maker CHECK (actor <> ALL (makers)),
    CHECK (agreed OR reason IS NOT NULL)
);
CREATE FUNCTION cycle_approval_makers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.makers INTO NEW.makers FROM cycle c WHERE c.id = NEW.cycle_id;
    RETURN NEW;
END $$;
CREATE TRIGGER cycle_approval_makers BEFORE INSERT ON cycle_approval FOR EACH ROW EXECUTE FUNCTION cycle_approval_makers();
CREATE TRIGGER cycle_approval_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON cycle_approval
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
CREATE FUNCTION cycle_is_agreed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM cycle_approval a WHERE a.cycle_id = NEW.id AND a.round = NEW.round AND a.agreed)
            < greatest(1, jsonb_array_length(NEW.steps)) THEN
        RAISE EXCEPTION 'cycle % is not agreed to by everybody', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'cycle_is_agreed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cycle_is_agreed BEFORE UPDATE OF state ON cycle FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND NEW.state = 'approved') EXECUTE FUNCTION cycle_is_agreed();

-- Every move of money, never changed. Reservations and what is spent of them count for a cycle too.
CREATE TABLE fund_entry (
    id         uuid PRIMARY KEY,
    fund_id    uuid NOT NULL REFERENCES fund (id),
    kind       text NOT NULL CHECK (kind IN ('deposit', 'withdraw', 'reserve', 'release', 'spend', 'return', 'refund')),
    amount     bigint NOT NULL CHECK (amount > 0),
    cycle_id   uuid REFERENCES cycle (id),
    batch_id   uuid,
    once       text UNIQUE,                    -- what a second request for the same move is told by
    actor      text NOT NULL,
    reason     text,
    at         timestamptz NOT NULL DEFAULT now(),
    CHECK ((cycle_id IS NULL) = (kind IN ('deposit', 'withdraw')))
);
CREATE INDEX fund_entry_fund ON fund_entry (fund_id, id);
CREATE INDEX fund_entry_cycle ON fund_entry (cycle_id, id) WHERE cycle_id IS NOT NULL;
CREATE TRIGGER fund_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fund_entry
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();
CREATE FUNCTION fund_entry_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The cycle first, then the fund, as everybody else does: nobody waits for the other in a circle.
    UPDATE cycle c SET reserved = c.reserved + s.reserved, spent = c.spent + s.spent
    FROM (SELECT cycle_id,
            sum(CASE kind WHEN 'reserve' THEN amount WHEN 'return' THEN amount WHEN 'release' THEN -amount
                WHEN 'spend' THEN -amount ELSE 0 END) AS reserved,
            sum(CASE kind WHEN 'spend' THEN amount WHEN 'return' THEN -amount WHEN 'refund' THEN -amount ELSE 0 END) AS spent
        FROM added WHERE cycle_id IS NOT NULL GROUP BY cycle_id ORDER BY cycle_id) s WHERE c.id = s.cycle_id;
    UPDATE fund f SET deposited = f.deposited + s.deposited, reserved = f.reserved + s.reserved, spent = f.spent + s.spent,
        updated_at = now()
    FROM (SELECT fund_id,
            sum(CASE kind WHEN 'deposit' THEN amount WHEN 'withdraw' THEN -amount ELSE 0 END) AS deposited,
            sum(CASE kind WHEN 'reserve' THEN amount WHEN 'return' THEN amount WHEN 'release' THEN -amount
                WHEN 'spend' THEN -amount ELSE 0 END) AS reserved,
            sum(CASE kind WHEN 'spend' THEN amount WHEN 'return' THEN -amount WHEN 'refund' THEN -amount ELSE 0 END) AS spent
        FROM added GROUP BY fund_id ORDER BY fund_id) s WHERE f.id = s.fund_id;
    RETURN NULL;
END $$;
CREATE TRIGGER fund_entry_counts AFTER INSERT ON fund_entry REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION fund_entry_counts();
CREATE FUNCTION fund_moves_by_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'balances move by entries only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER fund_moves_by_entries BEFORE UPDATE OF deposited, reserved, spent ON fund FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION fund_moves_by_entries();
CREATE TRIGGER cycle_money_moves_by_entries BEFORE UPDATE OF reserved, spent ON cycle FOR EACH ROW
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION fund_moves_by_entries();

-- An order to pay many, sent as one message; its rows are fetched with a claim that names the version.
CREATE TABLE payment_batch (
    id          uuid PRIMARY KEY,
    cycle_id    uuid NOT NULL REFERENCES cycle (id),
    fund_id     uuid NOT NULL REFERENCES fund (id),
    number      integer NOT NULL,
    form        text NOT NULL CHECK (form IN ('batch', 'single')),
    route       text,
    count       bigint NOT NULL CHECK (count > 0),
    ordered     bigint NOT NULL CHECK (ordered > 0),
    version     integer NOT NULL DEFAULT 1,    -- counts up when rows were taken out before they were fetched
    message_id  uuid,                          -- of the version in force; null when every row was taken out, or one by one
    fetched_at  timestamptz,                   -- when its rows first went out; nothing can be taken out afterwards
    actor       text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cycle_id, number)
);

CREATE TABLE payment (
    id             uuid PRIMARY KEY,
    batch_id       uuid NOT NULL,
    entitlement_id uuid NOT NULL,
    try            smallint NOT NULL,
    recipient_id   uuid NOT NULL,
    state          text NOT NULL DEFAULT 'issued' CHECK (state IN ('issued', 'sent', 'paid', 'failed', 'unknown', 'cancelled')),
    amount         bigint NOT NULL CHECK (amount > 0),
    paid           bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),
    failed         bigint NOT NULL DEFAULT 0 CHECK (failed >= 0),
    cancelled      bigint NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    unknown        bigint NOT NULL GENERATED ALWAYS AS (amount - paid - failed - cancelled) STORED,
    returned       bigint NOT NULL DEFAULT 0,  -- came back of what was paid
    fee            bigint NOT NULL DEFAULT 0 CHECK (fee >= 0),
    rail_reference text,
    reason_code    text,
    decision_id    uuid,                       -- the decision of a person that changed an outcome
    sent_at        timestamptz,
    completed_at   timestamptz,
    CONSTRAINT payment_once UNIQUE (entitlement_id, try),
    CHECK (returned BETWEEN 0 AND paid),
    CHECK (unknown >= 0),
    CHECK (CASE state WHEN 'paid' THEN paid > 0 AND unknown = 0 WHEN 'failed' THEN failed = amount
        WHEN 'cancelled' THEN cancelled = amount ELSE unknown = amount END)
) WITH (fillfactor = 50);
CREATE INDEX payment_of_batch ON payment (batch_id, id);
CREATE FUNCTION payment_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a payment that is % becomes % only by the decision of a person', OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'payment_stays';
END $$;
CREATE TRIGGER payment_stays AFTER UPDATE OF state, paid, failed, cancelled ON payment FOR EACH ROW
    WHEN (OLD.state IN ('paid', 'failed', 'cancelled')
        AND (OLD.state, OLD.paid, OLD.failed, OLD.cancelled) IS DISTINCT FROM (NEW.state, NEW.paid, NEW.failed, NEW.cancelled)
        AND OLD.decision_id IS NOT DISTINCT FROM NEW.decision_id)
    EXECUTE FUNCTION payment_stays();
CREATE TRIGGER payment_amount_stays AFTER UPDATE OF amount, entitlement_id, recipient_id, batch_id, try ON payment
    FOR EACH ROW EXECUTE FUNCTION entitlement_stays();

-- Results that do not fit what is known: a person decides what is true. Money is never moved again by itself.
CREATE TABLE payment_dispute (
    id             uuid PRIMARY KEY,
    payment_id     uuid,                       -- null when the result names none of ours
    message_id     uuid NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('contradicts', 'too_much', 'no_amount', 'currency', 'reversed_unpaid', 'not_ours')),
    status         text NOT NULL,              -- as the result says
    amount_paid    bigint,
    currency       text,
    fee            bigint,
    rail_reference text,
    reason_code    text,
    received_at    timestamptz NOT NULL DEFAULT now(),
    decision       text CHECK (decision IN ('accepted', 'dismissed')),
    decided_by     text,
    decided_at     timestamptz,
    note           text,
    CHECK ((decision IS NULL) = (decided_by IS NULL) AND (decision IS NULL) = (decided_at IS NULL))
);
CREATE INDEX payment_dispute_open ON payment_dispute (id) WHERE decision IS NULL;
CREATE INDEX payment_dispute_payment ON payment_dispute (payment_id);
CREATE UNIQUE INDEX payment_dispute_once ON payment_dispute (message_id);

-- Questions to an outside service that decides a part of a program's work.
CREATE TABLE decision_request (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL REFERENCES program (id),
    cycle_id   uuid REFERENCES cycle (id),
    slot       text NOT NULL CHECK (slot IN ('eligibility', 'deduplication', 'entitlement', 'approval')),
    route      text NOT NULL,
    count      bigint NOT NULL,
    answered   bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz
);
CREATE UNIQUE INDEX decision_request_open ON decision_request (program_id, slot) WHERE closed_at IS NULL AND cycle_id IS NULL;
CREATE INDEX decision_request_cycle ON decision_request (cycle_id, slot) WHERE cycle_id IS NOT NULL;

-- What an outside service gives each beneficiary of a cycle.
CREATE TABLE cycle_amount (
    cycle_id      uuid NOT NULL,
    registrant_id uuid NOT NULL,
    amount        bigint NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (cycle_id, registrant_id)
);
CREATE TRIGGER cycle_amount_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON cycle_amount
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();

-- More money for one entitlement, asked for by one person and agreed to by another.
CREATE TABLE top_up (
    id             uuid PRIMARY KEY,
    entitlement_id uuid NOT NULL REFERENCES entitlement (id),
    amount         bigint NOT NULL CHECK (amount > 0),
    reason         text NOT NULL,
    maker          text NOT NULL,
    agreed         boolean,
    checker        text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    decided_at     timestamptz,
    CONSTRAINT top_up_not_the_maker CHECK (checker <> maker),
    CHECK ((agreed IS NULL) = (checker IS NULL) AND (agreed IS NULL) = (decided_at IS NULL))
);
CREATE INDEX top_up_entitlement ON top_up (entitlement_id);

-- That somebody has an account which was proved to be theirs; the account itself lies sealed.
CREATE TABLE verified_account (
    registrant_id uuid PRIMARY KEY REFERENCES registrant (id) ON DELETE CASCADE,
    verified_at   timestamptz NOT NULL,
    expires_on    date,
    source        text NOT NULL
);

-- What became of what was ordered: paid + failed + unknown + cancelled = ordered in every row, by the checks of `payment`.
CREATE VIEW batch_reconciliation AS
SELECT b.id AS batch_id, b.cycle_id, b.fund_id, b.number, c.currency, count(*) AS payments, sum(p.amount)::bigint AS ordered,
    sum(p.paid)::bigint AS paid, sum(p.failed)::bigint AS failed, sum(p.unknown)::bigint AS unknown,
    sum(p.cancelled)::bigint AS cancelled, sum(p.returned)::bigint AS returned, sum(p.fee)::bigint AS fees,
    (count(*) = b.count AND sum(p.amount) = b.ordered
        AND sum(p.paid) + sum(p.failed) + sum(p.unknown) + sum(p.cancelled) = b.ordered) AS balanced
FROM payment_batch b JOIN cycle c ON c.id = b.cycle_id JOIN payment p ON p.batch_id = b.id
GROUP BY b.id, c.currency;

CREATE VIEW cycle_reconciliation AS
SELECT c.id AS cycle_id, c.program_id, c.sequence, c.currency, coalesce(sum(r.payments), 0)::bigint AS payments,
    coalesce(sum(r.ordered), 0)::bigint AS ordered, coalesce(sum(r.paid), 0)::bigint AS paid,
    coalesce(sum(r.failed), 0)::bigint AS failed, coalesce(sum(r.unknown), 0)::bigint AS unknown,
    coalesce(sum(r.cancelled), 0)::bigint AS cancelled, coalesce(sum(r.returned), 0)::bigint AS returned,
    coalesce(sum(r.fees), 0)::bigint AS fees, c.reserved, c.spent,
    coalesce(bool_and(r.balanced), true) AND c.spent = coalesce(sum(r.paid - r.returned), 0) AS balanced
FROM cycle c LEFT JOIN batch_reconciliation r ON r.cycle_id = c.id
GROUP BY c.id;

CREATE VIEW fund_reconciliation AS
SELECT f.id AS fund_id, f.code, f.currency, f.deposited, f.reserved, f.spent, f.deposited - f.reserved - f.spent AS available,
    coalesce(sum(r.ordered), 0)::bigint AS ordered, coalesce(sum(r.paid), 0)::bigint AS paid,
    coalesce(sum(r.failed), 0)::bigint AS failed, coalesce(sum(r.unknown), 0)::bigint AS unknown,
    coalesce(sum(r.cancelled), 0)::bigint AS cancelled, coalesce(sum(r.returned), 0)::bigint AS returned,
    coalesce(bool_and(r.balanced), true) AND f.spent = coalesce(sum(r.spent), 0)
        AND f.reserved = coalesce(sum(r.reserved), 0) AS balanced
FROM fund f LEFT JOIN (SELECT r.*, c.fund_id FROM cycle_reconciliation r JOIN cycle c ON c.id = r.cycle_id) r ON r.fund_id = f.id
GROUP BY f.id;
