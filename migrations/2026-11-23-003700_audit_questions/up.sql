-- What people ask of an audit log that has grown: by caller, by time, by resource, newest first. The indexes are made
-- in the migration's transaction: no released version has a log yet that this would hold up.
CREATE INDEX audit_entry_caller ON audit_entry (tenant_id, caller, id);
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
CREATE FUNCTION audit_entry_names() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
