CREATE TABLE selection (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    id          uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    subject     text NOT NULL CHECK (subject IN ('customer', 'contract')),
    criteria    jsonb NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('selection');

-- Versions are never changed: what was sent keeps the one it was made with.
CREATE TABLE template (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    brand_id     uuid NOT NULL,
    key          text NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,63}$'),
    language     text NOT NULL,
    version      integer NOT NULL CHECK (version > 0),
    kind         text NOT NULL CHECK (kind IN ('message', 'document')),
    subject      text NOT NULL DEFAULT '',
    text_body    text NOT NULL DEFAULT '',
    html_body    text NOT NULL DEFAULT '',
    typst_source text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, brand_id, key, language, version),
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand
);
SELECT anklang_secure('template');

CREATE TABLE campaign (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    id            uuid NOT NULL,
    name          text NOT NULL,
    planned_start date,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('campaign');

CREATE TABLE phase (
    tenant_id          uuid NOT NULL REFERENCES tenant,
    id                 uuid NOT NULL,
    campaign_id        uuid NOT NULL,
    number             integer NOT NULL CHECK (number > 0),
    name               text NOT NULL,
    product_version_id uuid NOT NULL,
    offer_valid_until  date NOT NULL,
    state              text NOT NULL DEFAULT 'launching'
                       CHECK (state IN ('launching', 'active', 'failed', 'cancelled')),
    operation_id       uuid NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, campaign_id, number),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaign,
    FOREIGN KEY (tenant_id, product_version_id) REFERENCES product_version,
    FOREIGN KEY (tenant_id, operation_id) REFERENCES operation
);
SELECT anklang_secure('phase');

CREATE TABLE outbound (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    id                uuid NOT NULL,
    phase_id          uuid NOT NULL,
    number            integer NOT NULL CHECK (number > 0),
    channel           text NOT NULL,
    account           text NOT NULL,
    message_template  text NOT NULL,
    document_template text NOT NULL,
    purpose           text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, phase_id, number),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES phase
);
SELECT anklang_secure('outbound');

-- The frozen result of a selection. One per phase; shares the phase's id.
CREATE TABLE audience (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    phase_id          uuid NOT NULL,
    selection_id      uuid,
    selection_version integer,
    criteria          jsonb NOT NULL,
    deselected        text[] NOT NULL DEFAULT '{}',
    frozen_at         timestamptz,
    candidates        bigint NOT NULL DEFAULT 0,
    members           bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, phase_id),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES phase
);
SELECT anklang_secure('audience');

-- Members and everyone left out. seq numbers all candidates of an audience from 1 by
-- contract number: chunks of a launch and pages of a list are ranges of it.
CREATE TABLE audience_member (
    tenant_id        uuid NOT NULL REFERENCES tenant,
    phase_id         uuid NOT NULL,
    seq              bigint NOT NULL,
    customer_id      uuid NOT NULL,
    contract_id      uuid NOT NULL,
    contact_point_id uuid,
    exclusion        text CHECK (exclusion IN ('deselected', 'contract_ended', 'other_division',
                     'already_on_target', 'no_quantity', 'no_address', 'suppressed', 'no_consent')),
    PRIMARY KEY (tenant_id, phase_id, seq),
    UNIQUE (tenant_id, phase_id, contract_id),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES audience,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contract ON DELETE CASCADE
);
SELECT anklang_secure('audience_member');

CREATE TABLE offer (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    id                  uuid NOT NULL,
    number              text NOT NULL,
    customer_id         uuid NOT NULL,
    contract_id         uuid NOT NULL,
    product_version_id  uuid NOT NULL,
    campaign_id         uuid,
    phase_id            uuid,
    member_seq          bigint,
    document_template   text NOT NULL,
    state               text NOT NULL
                        CHECK (state IN ('draft', 'open', 'accepted', 'rejected', 'expired', 'withdrawn')),
    base_price_per_year numeric(14, 4) NOT NULL,
    unit_price_per_kwh  numeric(14, 6) NOT NULL,
    annual_quantity_kwh numeric(12, 3) NOT NULL,
    annual_amount       numeric(18, 2) NOT NULL,
    currency            text NOT NULL,
    offer_date          date NOT NULL,
    valid_until         date NOT NULL,
    answered_at         timestamptz,
    answer_source       text NOT NULL DEFAULT '',
    reject_reason       text NOT NULL DEFAULT '',
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    UNIQUE (tenant_id, phase_id, member_seq),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contract ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, product_version_id) REFERENCES product_version,
    FOREIGN KEY (tenant_id, phase_id) REFERENCES phase
);
CREATE INDEX offer_customer ON offer (tenant_id, customer_id);
CREATE INDEX offer_contract ON offer (tenant_id, contract_id);
CREATE INDEX offer_campaign ON offer (tenant_id, campaign_id, number);
CREATE INDEX offer_open ON offer (tenant_id, valid_until) WHERE state = 'open';
CREATE INDEX offer_draft ON offer (tenant_id, created_at) WHERE state = 'draft' AND phase_id IS NULL;
SELECT anklang_secure('offer');

-- The PDF of an offer; its bytes lie in the document store under their SHA-256.
CREATE TABLE document (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    offer_id          uuid NOT NULL,
    sha256            bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes        bigint NOT NULL,
    pages             integer NOT NULL,
    template_language text NOT NULL,
    template_version  integer NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, offer_id),
    FOREIGN KEY (tenant_id, offer_id) REFERENCES offer ON DELETE CASCADE
);
SELECT anklang_secure('document');
