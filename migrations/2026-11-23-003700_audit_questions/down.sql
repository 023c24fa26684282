DROP TRIGGER audit_entry_names ON audit_entry;
DROP FUNCTION audit_entry_names();
DROP TABLE audit_resource;
DROP FUNCTION anklang_resource_hash(text);
DROP INDEX audit_entry_at, audit_entry_caller;
