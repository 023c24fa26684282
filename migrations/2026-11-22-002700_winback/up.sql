-- Winback: what counts as drifting away, who was found, and the cases that people work on.

-- Settings, each version a row that is never changed; the highest one holds.
CREATE TABLE winback_settings (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    version    integer NOT NULL CHECK (version > 0),
    -- As `Settings` of the store: detection, working, control.
    settings   jsonb NOT NULL,
    changed_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version)
);
SELECT anklang_secure('winback_settings');

-- One look at all customers, as of a day.
CREATE TABLE winback_detection (
    tenant_id        uuid NOT NULL REFERENCES tenant,
    -- Also the id of its operation.
    id               uuid NOT NULL,
    as_of            date NOT NULL,
    settings_version integer NOT NULL,
    -- Nothing was opened: only looked.
    is_trial         boolean NOT NULL,
    -- Parameters, fit statistics, season; NULL until they are known.
    model            jsonb,
    -- Counts and sums once it is done, by reason.
    result           jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    done_at          timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, settings_version) REFERENCES winback_settings
);
CREATE INDEX winback_detection_done ON winback_detection (tenant_id, done_at DESC)
    WHERE done_at IS NOT NULL AND NOT is_trial;
SELECT anklang_secure('winback_detection');

-- What a detection goes by of each customer who ever bought; deleted when it is over.
CREATE TABLE winback_figure (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    detection_id uuid NOT NULL,
    customer_id  uuid NOT NULL,
    first_order  date NOT NULL,
    last_order   date NOT NULL,
    orders       integer NOT NULL,
    revenue      numeric(18, 2) NOT NULL,
    revenue_then numeric(18, 2) NOT NULL,
    revenue_now  numeric(18, 2) NOT NULL,
    -- Days with an order after the first one, and the mean revenue of those.
    repeats      integer NOT NULL,
    mean_repeat  double precision NOT NULL,
    PRIMARY KEY (tenant_id, detection_id, customer_id),
    FOREIGN KEY (tenant_id, detection_id) REFERENCES winback_detection ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX winback_figure_customer ON winback_figure (tenant_id, customer_id);
SELECT anklang_secure('winback_figure');

-- A customer who drifts away, from being found until the end. At most one that is not closed for each customer.
CREATE TABLE winback_case (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    id            uuid NOT NULL,
    customer_id   uuid NOT NULL,
    -- domain::winback::CaseState.
    state         text NOT NULL DEFAULT 'declining'
        CHECK (state IN ('declining', 'reminder', 'offer_requested', 'mailed', 'no_interest', 'won_back')),
    opened_on     date NOT NULL,
    -- The detection that found it, and the one that saw it last.
    opened_by     uuid NOT NULL,
    seen_by       uuid NOT NULL,
    due_on        date,
    standard_on   date,
    voucher_on    date,
    contacted_on  date,
    no_interest   text,
    closed_on     date,
    -- Who works on it, as the caller names them, and until when.
    held_by       text,
    held_until    timestamptz,
    claim_id      uuid,
    -- Why it is one (domain::winback::Decline), as of the detection that saw it last.
    revenue_then  numeric(18, 2) NOT NULL,
    revenue_now   numeric(18, 2) NOT NULL,
    known_days    integer NOT NULL,
    season        numeric(8, 4) NOT NULL,
    expected      numeric(18, 2) NOT NULL,
    actual        numeric(18, 2) NOT NULL,
    drop_amount   numeric(18, 2) NOT NULL,
    drop_percent  numeric(18, 2) NOT NULL,
    last_order    date NOT NULL,
    -- Share of the product groups of the earlier period that are not bought any more, 0 to 1, and which.
    lost_share    double precision NOT NULL DEFAULT 0,
    lost_groups   text[] NOT NULL DEFAULT '{}',
    -- The model's view; NULL when there is no model.
    alive         double precision,
    purchases     double precision,
    order_value   double precision,
    at_stake      numeric(18, 2),
    -- Its currency.
    currency      text NOT NULL,
    -- The order that won the customer back, whether after a contact, and its revenue.
    won_order_id  uuid,
    won_contacted boolean,
    won_revenue   numeric(18, 2),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    CHECK ((state = 'reminder') = (due_on IS NOT NULL)),
    CHECK ((state = 'no_interest') = (no_interest IS NOT NULL)),
    CHECK ((state IN ('no_interest', 'won_back')) = (closed_on IS NOT NULL)),
    CHECK ((held_by IS NULL) = (held_until IS NULL) AND (held_by IS NULL) = (claim_id IS NULL))
);
CREATE UNIQUE INDEX winback_case_open ON winback_case (tenant_id, customer_id)
    WHERE state NOT IN ('no_interest', 'won_back');
CREATE INDEX winback_case_customer ON winback_case (tenant_id, customer_id, opened_on);
-- Next customer: the most at stake first.
CREATE INDEX winback_case_state ON winback_case (tenant_id, state, at_stake DESC NULLS LAST, id);
SELECT anklang_secure('winback_case');

-- What was done with a case; append-only.
CREATE TABLE winback_case_event (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    id         uuid NOT NULL,
    case_id    uuid NOT NULL,
    -- 'opened', 'no_interest', 'offer_requested', 'mailed', 'reminder', 'remark', 'won_back', 'moved'.
    kind       text NOT NULL,
    -- From which state to which; the same for a remark.
    from_state text NOT NULL DEFAULT '',
    to_state   text NOT NULL DEFAULT '',
    -- Who, as the caller names them; empty: the service.
    actor      text NOT NULL DEFAULT '',
    -- Remark, note, reason, day, template: what the kind has.
    detail     jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, case_id) REFERENCES winback_case ON DELETE CASCADE
);
CREATE INDEX winback_case_event_case ON winback_case_event (tenant_id, case_id, created_at, id);
CREATE INDEX winback_case_event_time ON winback_case_event (tenant_id, created_at, kind);
SELECT anklang_secure('winback_case_event');
