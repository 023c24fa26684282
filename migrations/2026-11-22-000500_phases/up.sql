ALTER TABLE campaign
    ADD COLUMN state  text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'cancelled')),
    ADD COLUMN paused boolean NOT NULL DEFAULT false;

-- planned → launching → active → completed; failed and cancelled from anywhere before. A phase
-- without a group is alone in the group of its own number. winding_up: cancelled, but there may be
-- open offers and queued messages left to take back.
ALTER TABLE phase
    ADD COLUMN paused             boolean NOT NULL DEFAULT false,
    ADD COLUMN winding_up         boolean NOT NULL DEFAULT false,
    ADD COLUMN start_date         date,
    ADD COLUMN end_date           date CHECK (end_date >= start_date),
    ADD COLUMN parallel_group     integer,
    ADD COLUMN predecessors       integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN open_offers        text NOT NULL DEFAULT 'allow'
                                  CHECK (open_offers IN ('allow', 'block', 'supersede')),
    ADD COLUMN one_per_household  boolean NOT NULL DEFAULT false,
    ADD COLUMN ending_within_days integer CHECK (ending_within_days > 0),
    ADD COLUMN started_at         timestamptz,
    ADD COLUMN completed_at       timestamptz,
    DROP CONSTRAINT phase_state_check,
    ADD CONSTRAINT phase_state_check
        CHECK (state IN ('planned', 'launching', 'active', 'completed', 'failed', 'cancelled'));
UPDATE phase SET started_at = created_at;
CREATE INDEX phase_planned ON phase (tenant_id, id) WHERE state = 'planned';
CREATE INDEX phase_active ON phase (tenant_id, id) WHERE state = 'active';
CREATE INDEX phase_winding_up ON phase (tenant_id, id) WHERE winding_up;

-- Only those who have shown a reaction to an earlier phase.
ALTER TABLE audience ADD COLUMN reaction jsonb;

ALTER TABLE audience_member
    DROP CONSTRAINT audience_member_exclusion_check,
    ADD CONSTRAINT audience_member_exclusion_check
        CHECK (exclusion IN ('deselected', 'contract_ended', 'contract_ending', 'other_division',
                             'already_on_target', 'no_quantity', 'open_offer', 'no_address',
                             'suppressed', 'no_consent', 'duplicate_household'));

ALTER TABLE offer
    ADD COLUMN supersedes      boolean NOT NULL DEFAULT false,
    ADD COLUMN superseded_by   uuid,
    ADD COLUMN withdrawn_at    timestamptz,
    ADD COLUMN withdraw_reason text NOT NULL DEFAULT '',
    ADD COLUMN reject_reason_code     text NOT NULL DEFAULT ''
                               CHECK (reject_reason_code IN ('', 'price', 'term', 'service', 'competitor',
                                      'satisfied', 'moving', 'not_interested', 'other'));
CREATE INDEX offer_phase_unanswered ON offer (tenant_id, phase_id) WHERE state IN ('draft', 'open');

ALTER TABLE number_range ADD COLUMN prefix text NOT NULL DEFAULT 'A-'
    CHECK (prefix ~ '^([A-Z0-9./_-]{0,15}[A-Z./_-])?$');

-- Due messages phase by phase: those of a paused phase are not walked over.
CREATE INDEX message_due_phase ON message (tenant_id, account, phase_id, next_attempt_at)
    WHERE state = 'queued';
CREATE INDEX message_phase_unsent ON message (tenant_id, phase_id) WHERE state IN ('queued', 'sending');

-- Who lives together: the same house by the same postcode, however it is spelled. Null without
-- street or postcode.
CREATE FUNCTION anklang_household(street text, house_number text, postal_code text, country text)
    RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN street <> '' AND postal_code <> '' THEN
        country || ' ' || regexp_replace(lower(postal_code), '[^[:alnum:]]', '', 'g') || ' ' ||
        regexp_replace(
            replace(replace(replace(replace(replace(
                lower(street || ' ' || house_number),
                'ß', 'ss'), 'ä', 'ae'), 'ö', 'oe'), 'ü', 'ue'), 'strasse', 'str'),
            '[^[:alnum:]]', '', 'g')
    END;
