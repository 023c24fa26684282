-- Where events go. A deleted one stays until its deliveries are purged, so that whoever announces
-- an event at that moment neither waits nor fails.
CREATE TABLE webhook (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    id            uuid NOT NULL,
    display_name  text NOT NULL,
    url           text NOT NULL,
    event_types   text[] NOT NULL DEFAULT '{}',
    paused        boolean NOT NULL DEFAULT false,
    failing_since timestamptz,
    held_until    timestamptz,
    deleted_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('webhook');

-- What deliveries are signed with: the newest has no end, those before it end after a while.
CREATE TABLE webhook_secret (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    webhook_id uuid NOT NULL,
    id         uuid NOT NULL,
    sealed     bytea NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, webhook_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook ON DELETE CASCADE
);
SELECT anklang_secure('webhook_secret');

-- The outbox: written by the statement that changes an offer, with what is told about it. seq
-- orders the events of an offer, because a change holds the offer's row until it is committed.
CREATE TABLE handover_event (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    id          uuid NOT NULL DEFAULT anklang_uuid7(),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    type        text NOT NULL,
    offer_id    uuid,
    subject     text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    data        jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, offer_id) REFERENCES offer ON DELETE CASCADE
);
CREATE INDEX handover_event_offer ON handover_event (tenant_id, offer_id);
CREATE INDEX handover_event_time ON handover_event (tenant_id, occurred_at);
SELECT anklang_secure('handover_event');

-- An event on its way to a webhook. pending → delivering → delivered, or pending again, or dead.
-- `attempt` fences: whoever claims counts it up, and what it came to is recorded only under the
-- attempt it was begun with. seq and offer_id are the event's, for the order.
CREATE TABLE handover_delivery (
    tenant_id       uuid NOT NULL REFERENCES tenant,
    webhook_id      uuid NOT NULL,
    event_id        uuid NOT NULL,
    seq             bigint NOT NULL,
    offer_id        uuid,
    state           text NOT NULL DEFAULT 'pending'
                    CHECK (state IN ('pending', 'delivering', 'delivered', 'dead')),
    attempt         integer NOT NULL DEFAULT 0,
    failures        integer NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    response_status integer,
    detail          text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    PRIMARY KEY (tenant_id, webhook_id, event_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook,
    FOREIGN KEY (tenant_id, event_id) REFERENCES handover_event ON DELETE CASCADE
);
CREATE INDEX handover_delivery_event ON handover_delivery (tenant_id, event_id);
CREATE INDEX handover_delivery_list ON handover_delivery (tenant_id, webhook_id, seq);
CREATE INDEX handover_delivery_due ON handover_delivery (tenant_id, webhook_id, next_attempt_at, seq)
    WHERE state = 'pending';
CREATE INDEX handover_delivery_order ON handover_delivery (tenant_id, webhook_id, offer_id, seq)
    WHERE state IN ('pending', 'delivering');
CREATE INDEX handover_delivery_leased ON handover_delivery (tenant_id, lease_until)
    WHERE state = 'delivering';
CREATE INDEX handover_delivery_dead ON handover_delivery (tenant_id, webhook_id, ended_at)
    WHERE state = 'dead';
CREATE INDEX handover_delivery_over ON handover_delivery (tenant_id, ended_at)
    WHERE state = 'delivered';
SELECT anklang_secure('handover_delivery');

-- The key that seals secrets when the operator has set none. Of the installation, no tenant's: the
-- role of requests does not see it. gen_random_uuid() takes 122 bits from the strong random source.
CREATE TABLE server_key (
    id         text PRIMARY KEY,
    key        bytea NOT NULL CHECK (length(key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON server_key TO anklang_worker;
INSERT INTO server_key (id, key)
SELECT 'database', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                          || uuid_send(gen_random_uuid()));
