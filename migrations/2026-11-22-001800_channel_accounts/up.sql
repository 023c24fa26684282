-- Accounts of tenants; those of the configuration file are not here. `revision` counts its changes:
-- servers open it anew when it grows, and claim messages only by the newest. `config` is without what
-- the plugin's schema marks as secret: that is sealed, all of it together. A deleted account stays
-- until what waits for it has moved to `replaced_by`.
CREATE TABLE channel_account (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    id            text NOT NULL CHECK (id ~ '^[a-z0-9-]{1,63}$'),
    display_name  text NOT NULL,
    plugin        text NOT NULL,
    channel       text NOT NULL,
    config        jsonb NOT NULL,
    secrets       bytea,
    secrets_set   text[] NOT NULL DEFAULT '{}',
    paused        boolean NOT NULL DEFAULT false,
    ambiguous     text NOT NULL CHECK (ambiguous IN ('resend', 'hold')),
    rate          text NOT NULL DEFAULT '',
    burst         integer NOT NULL DEFAULT 0,
    batch         integer NOT NULL CHECK (batch BETWEEN 1 AND 1000),
    calls         integer NOT NULL CHECK (calls BETWEEN 1 AND 64),
    hours         text NOT NULL DEFAULT '',
    days          text[] NOT NULL DEFAULT '{}',
    cost          numeric(10, 6),
    cost_currency text,
    revision      bigint NOT NULL DEFAULT 1,
    replaced_by   text,
    deleted_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK ((cost IS NULL) = (cost_currency IS NULL)),
    CHECK ((replaced_by IS NULL) = (deleted_at IS NULL))
);
SELECT anklang_secure('channel_account');

-- Accounts of one channel that stand in for each other: account, priority and share at the same place
-- of the three lists.
CREATE TABLE channel_route (
    tenant_id        uuid NOT NULL REFERENCES tenant,
    id               text NOT NULL CHECK (id ~ '^[a-z0-9-]{1,63}$'),
    display_name     text NOT NULL,
    channel          text NOT NULL,
    accounts         text[] NOT NULL,
    priorities       integer[] NOT NULL,
    shares           integer[] NOT NULL,
    failover_seconds integer NOT NULL CHECK (failover_seconds BETWEEN 1 AND 86400),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('channel_route');

-- An outbound has an account, or a route; its account is then empty, as each message has its own.
ALTER TABLE outbound ADD COLUMN route text;
CREATE INDEX outbound_route ON outbound (tenant_id, route) WHERE route IS NOT NULL;

-- Through which account it was tried; empty before there were routes: that of the message.
ALTER TABLE message_attempt ADD COLUMN account text NOT NULL DEFAULT '';

-- Since when an account has been held without much of a break, and since when it could not send. While
-- it cannot, one server at a time asks it whether it can again.
ALTER TABLE account_pace
    ADD COLUMN held_since     timestamptz,
    ADD COLUMN failing_since  timestamptz,
    ADD COLUMN failing_reason text NOT NULL DEFAULT '',
    ADD COLUMN probe_at       timestamptz;
