-- A launch may leave out contracts to which notice was given, whenever they end.
ALTER TABLE phase ADD COLUMN leave_out_terminated boolean NOT NULL DEFAULT false;

-- One word more; the rows that are there have none but the others.
ALTER TABLE audience_member
    DROP CONSTRAINT audience_member_exclusion_check,
    ADD CONSTRAINT audience_member_exclusion_check
        CHECK (exclusion IN ('deselected', 'contract_ended', 'contract_terminated', 'contract_ending',
                             'other_division', 'already_on_target', 'no_quantity', 'open_offer',
                             'no_address', 'suppressed', 'no_consent', 'duplicate_household',
                             'frequency_cap')) NOT VALID;
