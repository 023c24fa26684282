-- On which days there is work. own_days: [{"date", "kind", "name"}], which go before weekdays and
-- public holidays.
CREATE TABLE workday_calendar (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    id         text NOT NULL CHECK (id ~ '^[a-z0-9-]{1,63}$'),
    name       text NOT NULL,
    region     text NOT NULL DEFAULT '',
    workdays   smallint[] NOT NULL CHECK (workdays <@ '{1,2,3,4,5,6,7}'::smallint[] AND workdays <> '{}'),
    own_days   jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('workday_calendar');

-- Who is contacted when. Weekdays are 1 (Monday) to 7. `responsible` is users/… or roles/…, or empty.
CREATE TABLE contact_plan (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    code              text NOT NULL,
    name              text NOT NULL,
    description       text NOT NULL DEFAULT '',
    responsible       text NOT NULL DEFAULT '',
    recurrence        jsonb NOT NULL,
    delivery_weekdays smallint[] NOT NULL DEFAULT '{}',
    departure         text NOT NULL DEFAULT '',
    order_type        text NOT NULL DEFAULT '',
    valid_from        date NOT NULL,
    valid_to          date CHECK (valid_to >= valid_from),
    calendar_id       text,
    time_zone         text NOT NULL,
    holiday_rule      text NOT NULL,
    duplicates        boolean NOT NULL DEFAULT false,
    earliest          time,
    latest            time CHECK (latest >= earliest),
    outcome_rules     jsonb NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, code),
    FOREIGN KEY (tenant_id, calendar_id) REFERENCES workday_calendar
);
CREATE INDEX contact_plan_calendar ON contact_plan (tenant_id, calendar_id);
CREATE INDEX contact_plan_responsible ON contact_plan (tenant_id, responsible);
SELECT anklang_secure('contact_plan');

-- A customer in a plan at a time of the day; `id` is for what points to it, the API names it by the
-- rest of its key.
CREATE TABLE plan_entry (
    tenant_id      uuid NOT NULL,
    id             uuid NOT NULL,
    plan_code      text NOT NULL,
    customer_id    uuid NOT NULL,
    contact_time   time NOT NULL,
    contact_person text NOT NULL DEFAULT '',
    phone          text NOT NULL DEFAULT '',
    earliest       time,
    latest         time,
    priority       integer NOT NULL DEFAULT 0,
    skills         text[] NOT NULL DEFAULT '{}',
    valid_from     date,
    valid_to       date,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plan_code, customer_id, contact_time),
    CHECK (latest >= earliest),
    CHECK (valid_to >= valid_from),
    FOREIGN KEY (tenant_id, plan_code) REFERENCES contact_plan,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX plan_entry_customer ON plan_entry (tenant_id, customer_id);
SELECT anklang_secure('plan_entry');

-- What happens instead on a contact date of a plan. Without another date, plan or duplicates there is no
-- contact.
CREATE TABLE plan_exception (
    tenant_id       uuid NOT NULL,
    plan_code       text NOT NULL,
    plan_date       date NOT NULL,
    contact_date    date,
    delivery_date   date,
    other_plan_code text CHECK (other_plan_code <> plan_code),
    duplicates      boolean NOT NULL DEFAULT false,
    reason          text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, plan_code, plan_date),
    FOREIGN KEY (tenant_id, plan_code) REFERENCES contact_plan ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, other_plan_code) REFERENCES contact_plan
);
CREATE INDEX plan_exception_other_plan ON plan_exception (tenant_id, other_plan_code);
SELECT anklang_secure('plan_exception');

-- Days on which a customer is not contacted, or gets no delivery. No weekdays: all of them.
CREATE TABLE inactive_period (
    tenant_id   uuid NOT NULL,
    customer_id uuid NOT NULL,
    id          text NOT NULL,
    day_type    text NOT NULL CHECK (day_type IN ('contact', 'delivery')),
    weekdays    smallint[] NOT NULL DEFAULT '{}' CHECK (weekdays <@ '{1,2,3,4,5,6,7}'::smallint[]),
    first_day   date NOT NULL,
    last_day    date NOT NULL CHECK (last_day >= first_day),
    reason      text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, customer_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
SELECT anklang_secure('inactive_period');

-- What people are to do, and how it went.
-- plan_date is the date by the plan's recurrence, which never changes; contact_date is when it really is:
-- holidays, exceptions and people move it. Window and contact_at are of that date, window_to is the first
-- moment that is too late. next_at is when it is due: contact_at at first, later the next attempt; null
-- once it is over.
-- worked_on: whoever generates contacts leaves those alone that have marks, attempts or another state
-- than open.
-- holds_day: the customer has no second one on that date from a plan that does not permit duplicates;
-- set for one of a plan's contacts with a customer on a date. Whoever moves a contact by hand clears it.
-- details: {"contact_person", "phone", "note"}, what an entry does not say.
CREATE TABLE planned_contact (
    tenant_id      uuid NOT NULL,
    id             uuid NOT NULL,
    source         text NOT NULL CHECK (source IN ('plan', 'campaign', 'manual', 'handover')),
    plan_code      text,
    entry_id       uuid,
    customer_id    uuid NOT NULL,
    plan_date      date NOT NULL,
    contact_date   date NOT NULL,
    contact_at     timestamptz NOT NULL,
    window_from    timestamptz NOT NULL,
    window_to      timestamptz NOT NULL CHECK (window_to >= window_from),
    next_at        timestamptz,
    delivery_date  date,
    delivery_moved text NOT NULL DEFAULT '' CHECK (delivery_moved IN ('', 'exception', 'no_workday', 'inactive')),
    state          text NOT NULL DEFAULT 'open'
                   CHECK (state IN ('open', 'claimed', 'waiting', 'done', 'given_up', 'cancelled')),
    outcome_class  text CHECK (outcome_class IN ('done', 'order_taken', 'not_reached', 'busy', 'call_later',
                                                 'cancelled')),
    outcome        text NOT NULL DEFAULT '',
    attempts       integer NOT NULL DEFAULT 0,
    responsible    text NOT NULL DEFAULT '',
    priority       integer NOT NULL DEFAULT 0,
    skills         text[] NOT NULL DEFAULT '{}',
    marks          text[] NOT NULL DEFAULT '{}' CHECK (marks <@ '{pinned,moved,worked_on}'::text[]),
    claimed_by     text,
    claim_until    timestamptz,
    outbound_id    uuid,
    message_id     uuid,
    holds_day      boolean NOT NULL DEFAULT false,
    details        jsonb NOT NULL DEFAULT '{}',
    operation_id   uuid,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK ((state IN ('done', 'given_up', 'cancelled')) = (next_at IS NULL)),
    CHECK ((state = 'claimed') = (claim_until IS NOT NULL)),
    CHECK ((claimed_by IS NULL) = (claim_until IS NULL)),
    FOREIGN KEY (tenant_id, plan_code) REFERENCES contact_plan,
    FOREIGN KEY (tenant_id, entry_id) REFERENCES plan_entry ON DELETE SET NULL (entry_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, outbound_id) REFERENCES outbound ON DELETE SET NULL (outbound_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message ON DELETE SET NULL (message_id)
);
-- One for each entry and date, however often they are generated.
CREATE UNIQUE INDEX planned_contact_entry ON planned_contact (tenant_id, entry_id, plan_date)
    WHERE entry_id IS NOT NULL;
CREATE UNIQUE INDEX planned_contact_day ON planned_contact (tenant_id, customer_id, contact_date)
    WHERE holds_day;
CREATE UNIQUE INDEX planned_contact_message ON planned_contact (tenant_id, message_id)
    WHERE message_id IS NOT NULL;
CREATE INDEX planned_contact_outbound ON planned_contact (tenant_id, outbound_id)
    WHERE outbound_id IS NOT NULL;
CREATE INDEX planned_contact_customer ON planned_contact (tenant_id, customer_id, contact_date);
-- Few: those that holidays, exceptions and people have moved.
CREATE INDEX planned_contact_moved ON planned_contact (tenant_id, customer_id)
    WHERE contact_date <> plan_date;
CREATE INDEX planned_contact_plan ON planned_contact (tenant_id, plan_code, contact_date);
CREATE INDEX planned_contact_date ON planned_contact (tenant_id, contact_date, id);
-- The work list: what is due, the most important first; and claims that run out.
CREATE INDEX planned_contact_next ON planned_contact (tenant_id, state, next_at, priority)
    WHERE state IN ('open', 'waiting');
CREATE INDEX planned_contact_claimed ON planned_contact (tenant_id, claim_until)
    WHERE state = 'claimed';
SELECT anklang_secure('planned_contact');

-- How far a generation of contacts is, and what it has changed. Belongs to its operation, and goes
-- with it. `night` is set for the one that the server asks for each night.
CREATE TABLE contact_generation (
    tenant_id      uuid NOT NULL,
    operation_id   uuid NOT NULL,
    night          date,
    after_customer uuid,
    figures        jsonb NOT NULL DEFAULT '[]',
    sample         jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant_id, operation_id),
    UNIQUE (tenant_id, night),
    FOREIGN KEY (tenant_id, operation_id) REFERENCES operation ON DELETE CASCADE
);
SELECT anklang_secure('contact_generation');
