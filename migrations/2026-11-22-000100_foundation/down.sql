DROP TABLE number_range;
DROP TABLE operation;
DROP TABLE request_log;
DROP TABLE tenant;
DROP FUNCTION anklang_secure(regclass, boolean);
DROP FUNCTION anklang_uuid7();
DROP FUNCTION anklang_tenant();
-- The roles stay: other databases of the cluster may use them.
