-- Roles are of the whole cluster; another database may have made them already,
-- or be making them just now.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anklang_app', 'anklang_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        -- The server logs in as whoever runs this and steps down per transaction. Since
        -- PostgreSQL 16 who made a role is its member without the right to step down to it.
        IF NOT pg_has_role(current_user, wanted,
                           CASE WHEN current_setting('server_version_num')::int >= 160000
                                THEN 'SET' ELSE 'MEMBER' END) THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
END
$$;

-- The tenant of the transaction, set by the server with set_config(…, true).
CREATE FUNCTION anklang_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('anklang.tenant', true), '')::uuid;

-- A time-ordered UUID (RFC 9562, version 7) for rows made by INSERT … SELECT.
CREATE FUNCTION anklang_uuid7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid;

-- Row-level security: anklang_app sees the transaction's tenant only, anklang_worker
-- (claims of queues) sees all. Neither owns a table. Both are a net under the explicit
-- tenant_id predicates of every statement.
CREATE FUNCTION anklang_secure(target regclass, append_only boolean DEFAULT false) RETURNS void
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

-- A company using the service. No row-level security: it is what others hang on; the
-- server's role reads it only.
CREATE TABLE tenant (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name       text NOT NULL,
    time_zone  text NOT NULL DEFAULT 'Europe/Berlin',
    created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON tenant TO anklang_app, anklang_worker;

-- Responses of calls that carried a request_id, given again when it is repeated.
CREATE TABLE request_log (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    request_id uuid NOT NULL,
    method     text NOT NULL,
    body_hash  bytea NOT NULL,
    response   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
SELECT anklang_secure('request_log');

-- Long-running work. `attempt` fences: whoever leases counts it up, and every chunk is
-- committed only under the attempt it was begun with.
CREATE TABLE operation (
    tenant_id        uuid NOT NULL REFERENCES tenant,
    id               uuid NOT NULL,
    kind             text NOT NULL,
    resource         text NOT NULL,
    request          jsonb NOT NULL,
    state            text NOT NULL DEFAULT 'queued'
                     CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    step             text NOT NULL DEFAULT '',
    done             bigint NOT NULL DEFAULT 0,
    total            bigint NOT NULL DEFAULT 0,
    failed           bigint NOT NULL DEFAULT 0,
    step_started_at  timestamptz,
    last_errors      text[] NOT NULL DEFAULT '{}',
    response         jsonb,
    error_reason     text,
    error_message    text,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempt          integer NOT NULL DEFAULT 0,
    failures         integer NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    run_at           timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX operation_due ON operation (tenant_id, run_at) WHERE state IN ('queued', 'running');
SELECT anklang_secure('operation');

-- Numbers for people, e.g. of offers: gapless, taken in blocks.
CREATE TABLE number_range (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    kind       text NOT NULL,
    next_value bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, kind)
);
SELECT anklang_secure('number_range');
