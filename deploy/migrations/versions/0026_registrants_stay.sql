-- Enrollments, beneficiaries and payments refer to registrants by id without foreign keys, for speed. A look at each row that
-- is deleted misses an enrollment that is not committed yet; that nobody is ever deleted misses nothing and costs nothing.
-- Who is out of use has the status inactive, deceased or merged.
DROP TRIGGER enrollment_holds ON registrant;
DROP FUNCTION enrollment_holds();
CREATE FUNCTION registrant_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'registrants are never deleted, since programs, payments and history refer to them'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'registrant_stays';
END $$;
CREATE TRIGGER registrant_stays BEFORE DELETE OR TRUNCATE ON registrant
    FOR EACH STATEMENT EXECUTE FUNCTION registrant_stays();
