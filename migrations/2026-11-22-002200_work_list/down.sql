DROP TABLE contact_attempt;
DROP TABLE contact_outcome;
CREATE INDEX planned_contact_next ON planned_contact (tenant_id, state, next_at, priority)
    WHERE state IN ('open', 'waiting');
DROP INDEX planned_contact_called;
DROP INDEX planned_contact_work;
ALTER TABLE planned_contact DROP COLUMN any_time, DROP COLUMN claim_id;
