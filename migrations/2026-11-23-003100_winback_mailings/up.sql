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

-- Analyses count cases by the day as of which they were found.
CREATE INDEX winback_case_opened ON winback_case (tenant_id, opened_on);
