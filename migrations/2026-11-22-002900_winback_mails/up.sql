-- Winback: who mails are from, voucher codes, mails of cases in the ledger, mailings with a control group.

-- Codes of vouchers of a brand, all worth the same.
CREATE TABLE voucher_pool (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    id           uuid NOT NULL DEFAULT anklang_uuid7(),
    brand_id     uuid NOT NULL,
    code         text NOT NULL CHECK (code ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    display_name text NOT NULL DEFAULT '',
    value_text   text NOT NULL DEFAULT '',
    -- The last day on which codes are given out and accepted.
    valid_until  date,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, brand_id, code),
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand
);
SELECT anklang_secure('voucher_pool');

-- A code is the tenant's once, and given out once, ever: the row stays when its customer goes.
CREATE TABLE voucher (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    id          uuid NOT NULL DEFAULT anklang_uuid7(),
    pool_id     uuid NOT NULL,
    code        text NOT NULL CHECK (code <> ''),
    given_at    timestamptz,
    customer_id uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code),
    FOREIGN KEY (tenant_id, pool_id) REFERENCES voucher_pool,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE SET NULL (customer_id)
);
CREATE INDEX voucher_free ON voucher (tenant_id, pool_id, id) WHERE given_at IS NULL;
CREATE INDEX voucher_pool_given ON voucher (tenant_id, pool_id, given_at);
CREATE INDEX voucher_customer ON voucher (tenant_id, customer_id) WHERE customer_id IS NOT NULL;
SELECT anklang_secure('voucher');

-- How a brand sends winback mails.
CREATE TABLE winback_sender (
    tenant_id       uuid NOT NULL REFERENCES tenant,
    brand_id        uuid NOT NULL,
    account         text NOT NULL,
    -- Purpose of the consent that is needed.
    purpose         text NOT NULL,
    -- Empty: the brand's.
    sender_name     text NOT NULL DEFAULT '',
    sender_email    text NOT NULL DEFAULT '',
    reply_to        text NOT NULL DEFAULT '',
    -- Where the voucher template takes its codes from.
    voucher_pool_id uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, brand_id),
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand,
    FOREIGN KEY (tenant_id, voucher_pool_id) REFERENCES voucher_pool
);
SELECT anklang_secure('winback_sender');

-- Many cases mailed at once.
CREATE TABLE winback_mailing (
    tenant_id       uuid NOT NULL REFERENCES tenant,
    -- Also the id of its operation, and the seed of its control group.
    id              uuid NOT NULL,
    template        text NOT NULL CHECK (template IN ('standard', 'voucher')),
    filter          text NOT NULL DEFAULT '',
    control_percent double precision NOT NULL CHECK (control_percent BETWEEN 0 AND 50),
    -- What it brought is looked for on so many days, from the day on which the control group was drawn.
    window_days     integer NOT NULL CHECK (window_days > 0),
    currency        text NOT NULL,
    drawn_on        date,
    created_at      timestamptz NOT NULL DEFAULT now(),
    done_at         timestamptz,
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('winback_mailing');

-- Who is left alone, so that it shows what a mailing brings.
CREATE TABLE winback_control (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    mailing_id  uuid NOT NULL,
    customer_id uuid NOT NULL,
    case_id     uuid NOT NULL,
    PRIMARY KEY (tenant_id, mailing_id, customer_id),
    FOREIGN KEY (tenant_id, mailing_id) REFERENCES winback_mailing ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX winback_control_customer ON winback_control (tenant_id, customer_id);
SELECT anklang_secure('winback_control');

-- Who is mailed: decided is who was, or was refused.
CREATE TABLE winback_mailing_member (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    mailing_id  uuid NOT NULL,
    case_id     uuid NOT NULL,
    customer_id uuid NOT NULL,
    is_decided  boolean NOT NULL DEFAULT false,
    -- Why not, a word; NULL: mailed, or not decided yet.
    refusal     text,
    PRIMARY KEY (tenant_id, mailing_id, case_id),
    FOREIGN KEY (tenant_id, mailing_id) REFERENCES winback_mailing ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX winback_mailing_member_open ON winback_mailing_member (tenant_id, mailing_id, case_id)
    WHERE NOT is_decided;
CREATE INDEX winback_mailing_member_customer ON winback_mailing_member (tenant_id, customer_id);
SELECT anklang_secure('winback_mailing_member');

-- A message carries an offer of an outbound, or belongs to a winback case. phase_id says with what it
-- shares its turns at an account: of winback it is the mailing, or nothing but zeros.
ALTER TABLE message
    ALTER COLUMN campaign_id DROP NOT NULL,
    ALTER COLUMN outbound_id DROP NOT NULL,
    ALTER COLUMN member_seq DROP NOT NULL,
    ALTER COLUMN offer_id DROP NOT NULL,
    ADD COLUMN winback_case_id uuid,
    ADD CONSTRAINT message_belongs CHECK (
        num_nonnulls(offer_id, winback_case_id) = 1
        AND num_nonnulls(offer_id, campaign_id, outbound_id, member_seq) IN (0, 4)),
    ADD FOREIGN KEY (tenant_id, winback_case_id) REFERENCES winback_case ON DELETE CASCADE;
CREATE INDEX message_winback_case ON message (tenant_id, winback_case_id)
    WHERE winback_case_id IS NOT NULL;
ALTER TABLE message_report ALTER COLUMN campaign_id DROP NOT NULL;

-- What a message of a case is made of. A template goes out once for each case.
CREATE TABLE winback_mail (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    message_id uuid NOT NULL,
    case_id    uuid NOT NULL,
    template   text NOT NULL CHECK (template IN ('standard', 'voucher')),
    brand_id   uuid NOT NULL,
    voucher_id uuid,
    mailing_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, message_id),
    UNIQUE (tenant_id, case_id, template),
    UNIQUE (tenant_id, voucher_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, case_id) REFERENCES winback_case ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand,
    FOREIGN KEY (tenant_id, voucher_id) REFERENCES voucher,
    CHECK ((template = 'voucher') = (voucher_id IS NOT NULL))
);
SELECT anklang_secure('winback_mail');
