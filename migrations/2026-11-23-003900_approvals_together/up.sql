-- For so many hours the launches and mailings of one caller count together.
ALTER TABLE approval_policy
    ADD COLUMN window_hours integer NOT NULL DEFAULT 20 CHECK (window_hours BETWEEN 1 AND 8760);

-- Who has asked for a mailing, as callers are named; empty when not known.
ALTER TABLE winback_mailing ADD COLUMN launched_by text NOT NULL DEFAULT '';
