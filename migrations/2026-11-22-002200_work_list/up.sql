-- claim_id: what the holder of a claim shows; a new one with each claim, so that one that ran out opens
-- nothing. any_time: the customer named the time, which holds whatever the window.
ALTER TABLE planned_contact
    ADD COLUMN claim_id uuid,
    ADD COLUMN any_time boolean NOT NULL DEFAULT false,
    ADD CHECK ((claim_id IS NULL) = (claim_until IS NULL));

-- The work list of a person is one of their own contacts, those of their roles and those of nobody;
-- of each the most important first, then what is due the longest.
CREATE INDEX planned_contact_work ON planned_contact (tenant_id, responsible, priority DESC, next_at, id)
    WHERE state IN ('open', 'waiting');
DROP INDEX planned_contact_next;
-- Who is being called, for the contact budget.
CREATE INDEX planned_contact_called ON planned_contact (tenant_id, customer_id) WHERE state = 'claimed';

-- What comes of contacts in the tenant's own words. What was recorded keeps the class of its day.
CREATE TABLE contact_outcome (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    id         text NOT NULL CHECK (id ~ '^[a-z0-9-]{1,63}$'),
    name       text NOT NULL,
    class      text NOT NULL CHECK (class IN ('done', 'order_taken', 'not_reached', 'busy', 'call_later',
                                              'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('contact_outcome');

-- Every attempt to reach a customer. customer_id is the contact's: the contact budget counts the
-- attempts that reached the customer.
CREATE TABLE contact_attempt (
    tenant_id      uuid NOT NULL,
    contact_id     uuid NOT NULL,
    attempt        integer NOT NULL CHECK (attempt > 0),
    customer_id    uuid NOT NULL,
    worker         text NOT NULL,
    purpose        text NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    talk_seconds   integer NOT NULL DEFAULT 0 CHECK (talk_seconds >= 0),
    outcome_class  text NOT NULL CHECK (outcome_class IN ('done', 'order_taken', 'not_reached', 'busy',
                                                          'call_later', 'cancelled')),
    outcome        text NOT NULL DEFAULT '',
    note           text NOT NULL DEFAULT '',
    outside_window boolean NOT NULL,
    escalated_to   text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, contact_id, attempt),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES planned_contact ON DELETE CASCADE
);
CREATE INDEX contact_attempt_reached ON contact_attempt (tenant_id, customer_id, recorded_at)
    WHERE outcome_class IN ('done', 'order_taken', 'call_later');
CREATE INDEX contact_attempt_time ON contact_attempt (tenant_id, recorded_at);
SELECT anklang_secure('contact_attempt');
