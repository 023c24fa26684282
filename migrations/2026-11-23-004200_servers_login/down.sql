REVOKE INSERT (id, slug, name, time_zone), UPDATE (name, time_zone) ON tenant FROM anklang_worker;
REVOKE SELECT ON __diesel_schema_migrations FROM anklang_worker;
