-- Attributes by configuration. A version of a schema never changes; the newest of a subject holds.

CREATE TABLE attribute_schema (
    subject    text NOT NULL CHECK (subject ~ '^(individual|group|(program|event):[A-Za-z0-9][A-Za-z0-9_.-]*)$'),
    version    integer NOT NULL CHECK (version > 0),
    document   json NOT NULL CHECK (json_typeof(document) = 'object'),  -- as text, so that forms keep the order of the file
    actor      text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subject, version)
);
CREATE TRIGGER attribute_schema_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON attribute_schema
    FOR EACH STATEMENT EXECUTE FUNCTION is_append_only();

-- How a value is read. What does not have the declared form reads as null instead of failing a statement over a million
-- rows. PostgreSQL inlines them, so they cost what the expression costs and an index on a call is found by its expression.

-- Bounds are kept by cutting to just beyond them, and what lies there is null: so the value is taken out but once or twice.
CREATE FUNCTION attribute_number(value jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'number' THEN NULLIF(NULLIF(
        LEAST(GREATEST(value::numeric, -1000000000000001), 1000000000000001), -1000000000000001), 1000000000000001) END
$$;

CREATE FUNCTION attribute_integer(value jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'number' AND scale(trim_scale(value::numeric)) = 0 THEN NULLIF(NULLIF(
        LEAST(GREATEST(value::numeric, -1000000000000001), 1000000000000001), -1000000000000001), 1000000000000001) END
$$;

CREATE FUNCTION attribute_boolean(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'boolean' THEN value::boolean END
$$;

CREATE FUNCTION attribute_text(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END
$$;

-- A cast of text to date depends on the session and fails on 30 February; this does neither.
CREATE FUNCTION attribute_date(value jsonb) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~
            '^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))$'
            AND substr(value #>> '{}', 1, 4) <> '0000'
        THEN make_date(substr(value #>> '{}', 1, 4)::integer, substr(value #>> '{}', 6, 2)::integer,
            substr(value #>> '{}', 9, 2)::integer)
        WHEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~
            '^([0-9][0-9](0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29$'
        THEN make_date(substr(value #>> '{}', 1, 4)::integer, 2, 29)
    END
$$;

-- What rules need twice of a value. Unknown (null) in, unknown out; nothing here ever fails.

CREATE FUNCTION rule_least(one numeric, other numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN one <= other THEN one WHEN one > other THEN other END
$$;

CREATE FUNCTION rule_greatest(one numeric, other numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN one >= other THEN one WHEN one < other THEN other END
$$;

CREATE FUNCTION rule_day(day date, days numeric) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN days BETWEEN -1000000 AND 1000000
        AND (day - DATE '0001-01-01')::numeric + days BETWEEN 0 AND 3652058 THEN day + days::integer END
$$;
