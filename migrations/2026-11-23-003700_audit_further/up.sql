-- What people ask of an audit log that has grown: by caller, by time, by resource, newest first. The indexes are made
-- in the migration's transaction.
-- unreleased: nobody has a log yet that this would hold up.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_entry_caller ON audit_entry (tenant_id, caller, id);
-- unreleased: as above.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_entry_at ON audit_entry (tenant_id, at, id);

-- Which entries name a resource: the beginning of its name's SHA-256, as names may be longer than an index takes. A
-- table, as no index over the array would be used: its operators may not look at rows before row-level security has.
-- It only finds entries; what they name is said by themselves.
CREATE TABLE audit_resource (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    resource_hash bytea NOT NULL,
    entry_id      uuid NOT NULL,
    PRIMARY KEY (tenant_id, resource_hash, entry_id)
);
SELECT anklang_secure('audit_resource', append_only => true);
REVOKE INSERT ON audit_resource FROM anklang_app, anklang_worker;

CREATE FUNCTION anklang_resource_hash(resource text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT substr(sha256(convert_to(resource, 'UTF8')), 1, 16)
$$;

-- As the owner: whoever adds an entry need not be able to see or to write anything else.
CREATE FUNCTION audit_entry_names() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit_resource (tenant_id, resource_hash, entry_id)
    SELECT DISTINCT NEW.tenant_id, anklang_resource_hash(named), NEW.id FROM unnest(NEW.resources) AS named;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_entry_names AFTER INSERT ON audit_entry
    FOR EACH ROW WHEN (cardinality(NEW.resources) > 0) EXECUTE FUNCTION audit_entry_names();

INSERT INTO audit_resource (tenant_id, resource_hash, entry_id)
SELECT DISTINCT e.tenant_id, anklang_resource_hash(named), e.id
FROM audit_entry e CROSS JOIN LATERAL unnest(e.resources) AS named;

-- Retention (`audit.keep_days`). What is to go is said by an entry of the log, and goes once that is sealed: its caller
-- is anklang, `written` the number of the last entry that goes, `request_hash` that one's hash, from which the chain
-- goes on. Only these functions write such an entry and remove what it tells of: whoever is not the table's owner
-- cannot, whatever roles a login has been given.
CREATE FUNCTION audit_entry_is_of_a_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user IS DISTINCT FROM (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RAISE EXCEPTION 'only the retention writes as anklang';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_entry_is_of_a_call BEFORE INSERT ON audit_entry
    FOR EACH ROW WHEN (NEW.caller = 'anklang') EXECUTE FUNCTION audit_entry_is_of_a_call();

-- What is younger never goes, whatever the configuration or who asks; verify holds to it as well. In hours, as days
-- would depend on the session's time zone.
CREATE FUNCTION anklang_audit_least() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN interval '720 hours';

-- The number of the last entry that the newest sealed entry of the retention tells of; 0 when there is none.
CREATE FUNCTION anklang_audit_retired(of_tenant uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT r.written FROM audit_entry r
        WHERE r.tenant_id = of_tenant AND r.caller = 'anklang' AND r.seq > r.written
        ORDER BY r.id DESC LIMIT 1), 0)
$$;

CREATE OR REPLACE FUNCTION audit_entry_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.seq IS NULL AND NEW.seq IS NOT NULL THEN
            OLD.seq := NEW.seq;
            OLD.hash := NEW.hash;
            IF OLD IS NOT DISTINCT FROM NEW THEN
                RETURN NEW;
            END IF;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF OLD.seq <= anklang_audit_retired(OLD.tenant_id) AND OLD.at < now() - anklang_audit_least() THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is only added to';
END $$;

-- Says which entries go, if any are older than so many days: the first of the chain up to the first younger one, at
-- most so many, and only when all that was said before is gone. What it says is an entry that will go in its turn: so
-- it waits for a day, and for an entry of somebody else's, unless there are more than go at once.
CREATE FUNCTION anklang_audit_retire(of_tenant uuid, keep_days integer, most integer) RETURNS boolean
    LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    kept_from timestamptz := now() - keep_days * interval '24 hours';
    first_seq bigint;
    last_gone audit_entry%ROWTYPE;
BEGIN
    IF keep_days * interval '24 hours' < anklang_audit_least() THEN
        RAISE EXCEPTION 'entries of the audit log are kept for at least 30 days';
    END IF;
    IF most NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION 'from 1 to 100000 entries of the audit log go at once';
    END IF;
    SELECT seq INTO first_seq FROM audit_entry
    WHERE tenant_id = of_tenant AND seq IS NOT NULL ORDER BY seq LIMIT 1;
    IF first_seq IS NULL OR EXISTS (SELECT FROM audit_entry r
            WHERE r.tenant_id = of_tenant AND r.caller = 'anklang' AND r.written >= first_seq) THEN
        RETURN false;
    END IF;
    SELECT e.* INTO last_gone FROM audit_entry e
    WHERE e.tenant_id = of_tenant AND e.seq >= first_seq AND e.seq < coalesce(
        (SELECT y.seq FROM audit_entry y
         WHERE y.tenant_id = of_tenant AND y.seq >= first_seq AND y.seq < first_seq + most AND y.at >= kept_from
         ORDER BY y.seq LIMIT 1), first_seq + most)
    ORDER BY e.seq DESC LIMIT 1;
    IF last_gone.seq IS NULL THEN
        RETURN false;
    END IF;
    IF last_gone.seq < first_seq + most - 1 AND (
            (SELECT r.at FROM audit_entry r WHERE r.tenant_id = of_tenant AND r.caller = 'anklang'
             ORDER BY r.id DESC LIMIT 1) > now() - interval '24 hours'
            OR NOT EXISTS (SELECT FROM audit_entry e WHERE e.tenant_id = of_tenant
                           AND e.seq BETWEEN first_seq AND last_gone.seq AND e.caller <> 'anklang')) THEN
        RETURN false;
    END IF;
    INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash, written)
    VALUES (of_tenant, 'anklang', '/anklang.audit.v1.AuditService/RemoveOldEntries',
            ARRAY['auditEntries/' || last_gone.id,
                  'before/' || to_char(kept_from AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')],
            last_gone.hash, last_gone.seq);
    RETURN true;
END $$;

-- Removes what was said to go; gives how many entries.
CREATE FUNCTION anklang_audit_remove(of_tenant uuid) RETURNS bigint
    LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    told bigint := anklang_audit_retired(of_tenant);
    removed bigint;
BEGIN
    IF EXISTS (SELECT FROM audit_entry e WHERE e.tenant_id = of_tenant AND e.seq <= told
               AND e.at >= now() - anklang_audit_least()) THEN
        RAISE EXCEPTION 'an entry of the audit log says that others go which are too young';
    END IF;
    WITH gone AS (
        DELETE FROM audit_entry WHERE tenant_id = of_tenant AND seq <= told
        RETURNING id, resources),
    unnamed AS (
        DELETE FROM audit_resource x
        USING (SELECT g.id, anklang_resource_hash(named) AS hash
               FROM gone g CROSS JOIN LATERAL unnest(g.resources) AS named) n
        WHERE x.tenant_id = of_tenant AND x.resource_hash = n.hash AND x.entry_id = n.id)
    SELECT count(*) INTO removed FROM gone;
    RETURN removed;
END $$;

-- These mean the schema's tables, and never a caller's: what is temporary comes first unless it is named last. They are
-- the log's owner's, also when somebody else migrates: what only that one may do they do.
DO $$
DECLARE
    ours regprocedure;
    owner text := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'audit_entry'::regclass);
BEGIN
    FOREACH ours IN ARRAY ARRAY[
        'audit_entry_names()', 'audit_entry_is_of_a_call()', 'audit_entry_stays()', 'anklang_audit_retired(uuid)',
        'anklang_audit_retire(uuid, integer, integer)', 'anklang_audit_remove(uuid)']::regprocedure[] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', ours, current_schema());
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', ours, owner);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION
    audit_entry_names(), anklang_audit_retire(uuid, integer, integer), anklang_audit_remove(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION anklang_audit_retire(uuid, integer, integer), anklang_audit_remove(uuid)
    TO anklang_worker;
