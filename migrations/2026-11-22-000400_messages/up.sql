-- The ledger: one row per outbound and member, written before anything is sent.
-- queued → sending → sent → …; while sending, lease and attempt say who may finish it,
-- and submitted_at says whether it may have reached the channel.
CREATE TABLE message (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    id                  uuid NOT NULL,
    campaign_id         uuid NOT NULL,
    phase_id            uuid NOT NULL,
    outbound_id         uuid NOT NULL,
    member_seq          bigint NOT NULL,
    customer_id         uuid NOT NULL,
    offer_id            uuid NOT NULL,
    channel             text NOT NULL,
    account             text NOT NULL,
    address             text NOT NULL,
    address_hash        bytea NOT NULL,
    purpose             text NOT NULL,
    state               text NOT NULL DEFAULT 'queued'
                        CHECK (state IN ('queued', 'sending', 'sent', 'delivered', 'failed', 'bounced',
                                         'suppressed', 'ambiguous', 'cancelled')),
    attempt             integer NOT NULL DEFAULT 0,
    failures            integer NOT NULL DEFAULT 0,
    lease               uuid,
    lease_until         timestamptz,
    submitted_at        timestamptz,
    next_attempt_at     timestamptz NOT NULL DEFAULT now(),
    detail              text NOT NULL DEFAULT '',
    provider_message_id text NOT NULL DEFAULT '',
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    sent_at             timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, outbound_id, member_seq),
    FOREIGN KEY (tenant_id, outbound_id) REFERENCES outbound,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, offer_id) REFERENCES offer ON DELETE CASCADE
);
CREATE INDEX message_due ON message (tenant_id, account, next_attempt_at) WHERE state = 'queued';
CREATE INDEX message_leased ON message (tenant_id, lease_until) WHERE state = 'sending';
CREATE INDEX message_campaign ON message (tenant_id, campaign_id, id);
CREATE INDEX message_customer ON message (tenant_id, customer_id, id);
CREATE INDEX message_trouble ON message (tenant_id, id) WHERE state IN ('failed', 'ambiguous', 'bounced');
CREATE INDEX message_offer ON message (tenant_id, offer_id);
SELECT anklang_secure('message');

-- Every try to hand a message to its channel.
CREATE TABLE message_attempt (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    message_id uuid NOT NULL,
    attempt    integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    outcome    text CHECK (outcome IN ('accepted', 'permanent', 'transient', 'throttled', 'ambiguous', 'not_submitted')),
    detail     text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, message_id, attempt),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message ON DELETE CASCADE
);
SELECT anklang_secure('message_attempt');

-- A customer's history. Append-only.
CREATE TABLE customer_event (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    customer_id uuid NOT NULL,
    id          uuid NOT NULL DEFAULT anklang_uuid7(),
    kind        text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    resource    text NOT NULL DEFAULT '',
    campaign_id uuid,
    details     jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, customer_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
SELECT anklang_secure('customer_event', append_only => true);
