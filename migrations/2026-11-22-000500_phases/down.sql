DROP FUNCTION anklang_household(text, text, text, text);
DROP INDEX message_phase_unsent;
DROP INDEX message_due_phase;
ALTER TABLE number_range DROP COLUMN prefix;
DROP INDEX offer_phase_unanswered;
ALTER TABLE offer
    DROP COLUMN reject_reason_code,
    DROP COLUMN withdraw_reason,
    DROP COLUMN withdrawn_at,
    DROP COLUMN superseded_by,
    DROP COLUMN supersedes;
-- The release before knows fewer reasons and states.
UPDATE audience_member SET exclusion = 'deselected'
    WHERE exclusion IN ('contract_ending', 'open_offer', 'duplicate_household');
ALTER TABLE audience_member
    DROP CONSTRAINT audience_member_exclusion_check,
    ADD CONSTRAINT audience_member_exclusion_check
        CHECK (exclusion IN ('deselected', 'contract_ended', 'other_division', 'already_on_target',
                             'no_quantity', 'no_address', 'suppressed', 'no_consent'));
ALTER TABLE audience DROP COLUMN reaction;
DROP INDEX phase_winding_up;
DROP INDEX phase_active;
DROP INDEX phase_planned;
UPDATE operation o SET cancel_requested = true, run_at = now()
    FROM phase p WHERE p.tenant_id = o.tenant_id AND p.operation_id = o.id AND p.state = 'planned';
UPDATE phase SET state = CASE state WHEN 'planned' THEN 'cancelled' ELSE 'active' END
    WHERE state IN ('planned', 'completed');
ALTER TABLE phase
    DROP CONSTRAINT phase_state_check,
    ADD CONSTRAINT phase_state_check
        CHECK (state IN ('launching', 'active', 'failed', 'cancelled')),
    DROP COLUMN completed_at,
    DROP COLUMN started_at,
    DROP COLUMN ending_within_days,
    DROP COLUMN one_per_household,
    DROP COLUMN open_offers,
    DROP COLUMN predecessors,
    DROP COLUMN parallel_group,
    DROP COLUMN end_date,
    DROP COLUMN start_date,
    DROP COLUMN winding_up,
    DROP COLUMN paused;
ALTER TABLE campaign
    DROP COLUMN paused,
    DROP COLUMN state;
