-- Mailings by tile and by saved selection; a selection as it was when the mailing was asked for: what it is
-- made of, and the numbers of the customers who were ticked in it, in and out.
ALTER TABLE winback_mailing
    ADD COLUMN tile text CHECK (tile IN ('declining', 'reminder_due', 'offer_requested', 'mailed')),
    ADD COLUMN selection_id      uuid,
    ADD COLUMN selection_version integer,
    ADD COLUMN criteria          jsonb,
    ADD COLUMN included          text[] NOT NULL DEFAULT '{}',
    ADD COLUMN excluded          text[] NOT NULL DEFAULT '{}',
    ADD CHECK (num_nonnulls(selection_id, selection_version, criteria) IN (0, 3));

-- When the control group was drawn: contacts since then count as made all the same.
ALTER TABLE winback_mailing ADD COLUMN drawn_at timestamptz;
-- Who could not be mailed when lots were drawn is refused, and in no group.
ALTER TABLE winback_mailing_member
    ADD COLUMN is_drawn boolean NOT NULL DEFAULT true,
    ADD CHECK (is_drawn OR is_decided AND refusal IS NOT NULL);

-- Analyses count cases by the day as of which they were found.
CREATE INDEX winback_case_opened ON winback_case (tenant_id, opened_on);
