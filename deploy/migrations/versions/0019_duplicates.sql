-- Pairs of registrants that may be one, and what was decided of them; a decision is kept however often the pair is found again.
CREATE TABLE duplicate_pair (
    first_id   uuid NOT NULL REFERENCES registrant (id) ON DELETE CASCADE,
    second_id  uuid NOT NULL REFERENCES registrant (id) ON DELETE CASCADE,
    score      real NOT NULL CHECK (score BETWEEN 0 AND 100),
    reasons    text[] NOT NULL,
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'duplicate', 'distinct')),
    decided_by text,
    decided_at timestamptz,
    note       text,                           -- why, in words without anybody's data
    request_id uuid REFERENCES change_request (id),  -- the change that merges a duplicate
    found_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (first_id, second_id),
    CHECK (first_id < second_id),
    CHECK ((state = 'open') = (decided_by IS NULL)),
    CHECK ((state = 'open') = (decided_at IS NULL)),
    CHECK ((state = 'duplicate') = (request_id IS NOT NULL))
);
CREATE INDEX duplicate_pair_open ON duplicate_pair (score, first_id, second_id) WHERE state = 'open';
CREATE INDEX duplicate_pair_second ON duplicate_pair (second_id);
CREATE INDEX duplicate_pair_request ON duplicate_pair (request_id) WHERE request_id IS NOT NULL;
