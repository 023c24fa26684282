-- Signs the links by which recipients withdraw consent. Links never expire, so it never changes.
ALTER TABLE tenant ADD COLUMN unsubscribe_key bytea NOT NULL
    DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- How fast a tenant may send through an account: when the next place is due (GCRA), and until when
-- the channel wants to be left alone.
CREATE TABLE account_pace (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    account     text NOT NULL,
    free_at     timestamptz NOT NULL DEFAULT '-infinity',
    held_until  timestamptz,
    held_reason text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, account)
);
SELECT anklang_secure('account_pace');

-- At most so many contacts of a customer within so many days. Without a row there is no limit.
CREATE TABLE contact_budget (
    tenant_id       uuid NOT NULL REFERENCES tenant,
    max_contacts    integer NOT NULL CHECK (max_contacts BETWEEN 1 AND 1000),
    window_days     integer NOT NULL CHECK (window_days BETWEEN 1 AND 366),
    exempt_purposes text[] NOT NULL DEFAULT '{}',
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id)
);
SELECT anklang_secure('contact_budget');

ALTER TABLE audience_member
    DROP CONSTRAINT audience_member_exclusion_check,
    ADD CONSTRAINT audience_member_exclusion_check
        CHECK (exclusion IN ('deselected', 'contract_ended', 'contract_ending', 'other_division',
                             'already_on_target', 'no_quantity', 'open_offer', 'no_address',
                             'suppressed', 'no_consent', 'duplicate_household',
                             'frequency_cap'));

-- What a person last decided about a message of which nobody knew whether it arrived.
ALTER TABLE message
    ADD COLUMN resolution text CHECK (resolution IN ('sent', 'resend', 'cancel'));
