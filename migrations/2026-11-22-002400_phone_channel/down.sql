DROP INDEX planned_contact_message;
-- As before, one contact for each message.
UPDATE planned_contact k SET message_id = NULL
WHERE message_id IS NOT NULL AND EXISTS (
    SELECT FROM planned_contact o
    WHERE o.tenant_id = k.tenant_id AND o.message_id = k.message_id AND o.id < k.id);
CREATE UNIQUE INDEX planned_contact_message ON planned_contact (tenant_id, message_id)
    WHERE message_id IS NOT NULL;
DROP INDEX planned_contact_ends;
DROP INDEX planned_contact_unfinished;
DROP INDEX planned_contact_offer;
CREATE INDEX planned_contact_outbound ON planned_contact (tenant_id, outbound_id)
    WHERE outbound_id IS NOT NULL;
DROP INDEX planned_contact_member;
ALTER TABLE planned_contact
    DROP COLUMN end_code, DROP COLUMN end_reason, DROP COLUMN ends_at, DROP COLUMN offer_id, DROP COLUMN member_seq;
DROP INDEX outbound_contact_plan;
DROP INDEX outbound_phone;
ALTER TABLE outbound DROP COLUMN contact_plan, DROP COLUMN phone;
