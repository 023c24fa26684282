DROP FUNCTION anklang_audit_remove(uuid), anklang_audit_retire(uuid, integer, integer);
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
    END IF;
    RAISE EXCEPTION 'the audit log is only added to';
END $$;
DROP FUNCTION anklang_audit_retired(uuid), anklang_audit_least();
DROP TRIGGER audit_entry_is_of_a_call ON audit_entry;
DROP FUNCTION audit_entry_is_of_a_call();
DROP TRIGGER audit_entry_names ON audit_entry;
DROP FUNCTION audit_entry_names();
DROP TABLE audit_resource;
DROP FUNCTION anklang_resource_hash(text);
DROP INDEX audit_entry_at, audit_entry_caller;
