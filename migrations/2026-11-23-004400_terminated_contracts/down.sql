-- The version before has no word for it; nobody was contacted either way.
UPDATE audience_member SET exclusion = 'contract_ending' WHERE exclusion = 'contract_terminated';
ALTER TABLE audience_member
    DROP CONSTRAINT audience_member_exclusion_check,
    ADD CONSTRAINT audience_member_exclusion_check
        CHECK (exclusion IN ('deselected', 'contract_ended', 'contract_ending', 'other_division',
                             'already_on_target', 'no_quantity', 'open_offer', 'no_address',
                             'suppressed', 'no_consent', 'duplicate_household',
                             'frequency_cap'));
ALTER TABLE phase DROP COLUMN leave_out_terminated;
