-- Who did what when to what: a row with each change that a call makes, in its transaction. What it was is not kept,
-- only the hash of the request. `seq` and `hash` chain a tenant's rows; they are filled soon after the commit, so
-- that changes do not wait for each other, and with them a row is sealed.
CREATE TABLE audit_entry (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    id           uuid NOT NULL DEFAULT anklang_uuid7(),
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller       text NOT NULL,
    method       text NOT NULL,
    resources    text[] NOT NULL CHECK (cardinality(resources) <= 16),
    request_id   uuid,
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    trace_id     text DEFAULT nullif(substr(current_setting('anklang.traceparent', true), 4, 32), ''),
    written      bigint,
    refused      bigint,
    seq          bigint CHECK (seq > 0),
    hash         bytea CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, id),
    CHECK ((seq IS NULL) = (hash IS NULL))
);
CREATE UNIQUE INDEX audit_entry_chain ON audit_entry (tenant_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_entry_unsealed ON audit_entry (tenant_id, id) WHERE seq IS NULL;
SELECT anklang_secure('audit_entry', append_only => true);

-- Whoever writes a row says nothing of its time, trace and seal; whoever seals writes no rows.
REVOKE INSERT ON audit_entry FROM anklang_app, anklang_worker;
GRANT INSERT (tenant_id, caller, method, resources, request_id, request_hash, written, refused)
    ON audit_entry TO anklang_app;
GRANT UPDATE (seq, hash) ON audit_entry TO anklang_worker;

-- A row is sealed once, and else stays as it is, whoever asks.
CREATE FUNCTION audit_entry_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.seq IS NULL AND NEW.seq IS NOT NULL THEN
            OLD.seq := NEW.seq;
            OLD.hash := NEW.hash;
            IF OLD IS NOT DISTINCT FROM NEW THEN
                RETURN NEW;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is only added to';
END $$;
CREATE TRIGGER audit_entry_stays BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_stays();
CREATE TRIGGER audit_entry_is_kept BEFORE TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_stays();
