-- What reports make of a message: 1 failed, 2 came back for now, 3 delivered, 4 came back for good; the
-- strongest counts, whatever the order in which they came (domain/src/report.rs). told_at is when that
-- happened. lookups: so often its channel was asked what became of it.
ALTER TABLE message
    ADD COLUMN told    smallint NOT NULL DEFAULT 0 CHECK (told BETWEEN 0 AND 4),
    ADD COLUMN told_at timestamptz,
    ADD COLUMN lookups integer NOT NULL DEFAULT 0;
-- Reports name messages by the provider's id, which not all providers give.
CREATE INDEX message_provider ON message (tenant_id, account, provider_message_id)
    WHERE provider_message_id <> '';
CREATE INDEX message_ambiguous ON message (tenant_id, account, next_attempt_at)
    WHERE state = 'ambiguous';
CREATE INDEX message_told ON message (tenant_id, campaign_id, told_at) WHERE told_at IS NOT NULL;

-- What channels reported of messages, each report once: key is a hash of what was said. Of the
-- campaign and the phase because responses are counted by them.
CREATE TABLE message_report (
    tenant_id   uuid NOT NULL,
    message_id  uuid NOT NULL,
    key         bytea NOT NULL,
    state       text NOT NULL CHECK (state IN ('delivered', 'bounced', 'failed', 'opened', 'clicked',
                                               'complained', 'unsubscribed')),
    code        text NOT NULL,
    detail      text NOT NULL,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    campaign_id uuid NOT NULL,
    phase_id    uuid NOT NULL,
    PRIMARY KEY (tenant_id, message_id, key),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message ON DELETE CASCADE
);
CREATE INDEX message_report_response ON message_report (tenant_id, campaign_id, phase_id, state, message_id)
    WHERE state IN ('opened', 'clicked', 'complained', 'unsubscribed');
SELECT anklang_secure('message_report');

-- Reports by a provider's id that belongs to no message, or not yet: the outcome of the sending may be
-- recorded after them. Tried again with growing waits, then purged.
CREATE TABLE waiting_report (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    account             text NOT NULL,
    provider_message_id text NOT NULL,
    key                 bytea NOT NULL,
    state               text NOT NULL,
    code                text NOT NULL,
    detail              text NOT NULL,
    occurred_at         timestamptz,
    received_at         timestamptz NOT NULL DEFAULT now(),
    tries               integer NOT NULL DEFAULT 0,
    next_try_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account, provider_message_id, key)
);
CREATE INDEX waiting_report_due ON waiting_report (tenant_id, account, next_try_at);
CREATE INDEX waiting_report_age ON waiting_report (tenant_id, received_at);
SELECT anklang_secure('waiting_report');

-- What people sent to us, each message once: key is a hash of the provider's id for it, or of all that
-- it says.
CREATE TABLE inbound_message (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    id                  uuid NOT NULL DEFAULT anklang_uuid7(),
    account             text NOT NULL,
    channel             text NOT NULL,
    key                 bytea NOT NULL,
    sender              text NOT NULL,
    sender_name         text NOT NULL,
    recipient           text NOT NULL,
    address_hash        bytea NOT NULL,
    subject             text NOT NULL,
    body                text NOT NULL,
    provider_message_id text NOT NULL,
    message_id          uuid,
    customer_id         uuid,
    asks_to_stop        boolean NOT NULL,
    received_at         timestamptz NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, account, key),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message ON DELETE SET NULL (message_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX inbound_message_reply ON inbound_message (tenant_id, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX inbound_message_customer ON inbound_message (tenant_id, customer_id) WHERE customer_id IS NOT NULL;
SELECT anklang_secure('inbound_message');
