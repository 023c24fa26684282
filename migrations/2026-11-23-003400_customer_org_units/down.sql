DO $$
DECLARE
    secured regclass;
    policy name;
BEGIN
    FOR secured, policy IN SELECT polrelid, polname FROM pg_policy WHERE polname IN ('units', 'units_delete') LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy, secured);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION anklang_secure(target regclass, append_only boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    rights text := CASE WHEN append_only THEN 'SELECT, INSERT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY tenant ON %s TO anklang_app
                    USING (tenant_id = (SELECT anklang_tenant()))', target);
    EXECUTE format('CREATE POLICY worker ON %s TO anklang_worker USING (true)', target);
    EXECUTE format('GRANT %s ON %s TO anklang_app, anklang_worker', rights, target);
END
$$;
DROP FUNCTION anklang_bound(regclass, text, text);
DROP FUNCTION anklang_units_above();
DROP FUNCTION anklang_units();
DROP FUNCTION anklang_roots();
ALTER TABLE customer DROP COLUMN org_unit_code;
-- The role stays: other databases of the cluster may use it.
