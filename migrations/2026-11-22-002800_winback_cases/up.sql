-- Lists of cases and the next one: the most at stake first, last those of which the model says nothing.
DROP INDEX winback_case_state;
CREATE INDEX winback_case_tile ON winback_case (tenant_id, state, (coalesce(at_stake, -1)) DESC, id DESC);
CREATE INDEX winback_case_stake ON winback_case (tenant_id, (coalesce(at_stake, -1)) DESC, id DESC);
-- Reminders: due the longest first.
CREATE INDEX winback_case_due ON winback_case (tenant_id, due_on, (coalesce(at_stake, -1)) DESC, id DESC)
    WHERE state = 'reminder';

-- The offer that was made for a case last.
ALTER TABLE winback_case
    ADD COLUMN offer_id uuid,
    ADD FOREIGN KEY (tenant_id, offer_id) REFERENCES offer ON DELETE SET NULL (offer_id);
CREATE INDEX winback_case_offer ON winback_case (tenant_id, offer_id) WHERE offer_id IS NOT NULL;

-- An event of a case names its customer: it goes with the case, and that with the customer.
ALTER TABLE handover_event
    ADD COLUMN winback_case_id uuid,
    ADD FOREIGN KEY (tenant_id, winback_case_id) REFERENCES winback_case ON DELETE CASCADE;
CREATE INDEX handover_event_winback_case ON handover_event (tenant_id, winback_case_id)
    WHERE winback_case_id IS NOT NULL;
