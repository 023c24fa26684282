-- Servers may log in by another login than the migrations': one that owns nothing and is granted the roles.

-- A server looks whether all migrations have run.
GRANT SELECT ON __diesel_schema_migrations TO anklang_worker;
-- `anklang tenant` adds tenants, and changes their names and zones.
GRANT INSERT (id, slug, name, time_zone), UPDATE (name, time_zone) ON tenant TO anklang_worker;

-- anklang_scoped is younger than the other two: logins of servers that have those need it as well.
DO $$
DECLARE
    usable text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    login name;
BEGIN
    FOR login IN SELECT rolname FROM pg_roles
                 WHERE rolcanlogin AND pg_has_role(rolname, 'anklang_app', usable)
                   AND pg_has_role(rolname, 'anklang_worker', usable)
                   AND NOT pg_has_role(rolname, 'anklang_scoped', usable) LOOP
        BEGIN
            EXECUTE format('GRANT anklang_scoped TO %I', login);
        EXCEPTION
            -- Another database of the cluster is just at it.
            WHEN unique_violation THEN NULL;
            -- Since PostgreSQL 16 only who made a role, or was told to, may grant it.
            WHEN insufficient_privilege THEN
                RAISE WARNING 'GRANT anklang_scoped TO % is left to who may', quote_ident(login);
        END;
    END LOOP;
END
$$;
