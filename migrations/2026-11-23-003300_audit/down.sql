DROP TABLE audit_entry;
DROP FUNCTION audit_entry_stays();
