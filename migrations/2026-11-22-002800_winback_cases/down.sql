DELETE FROM handover_event WHERE winback_case_id IS NOT NULL;
ALTER TABLE handover_event DROP COLUMN winback_case_id;
ALTER TABLE winback_case DROP COLUMN offer_id;
DROP INDEX winback_case_due;
DROP INDEX winback_case_stake;
DROP INDEX winback_case_tile;
CREATE INDEX winback_case_state ON winback_case (tenant_id, state, at_stake DESC NULLS LAST, id);
