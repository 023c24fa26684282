-- How the members of an outbound by phone are called: {"responsible", "earliest", "latest", "priority",
-- "skills", "valid_days", "note"}. contact_plan: by whose rules; it stays as long as the outbound.
ALTER TABLE outbound
    ADD COLUMN phone        jsonb CHECK (phone IS NULL OR channel = 'phone'),
    ADD COLUMN contact_plan text,
    ADD FOREIGN KEY (tenant_id, contact_plan) REFERENCES contact_plan;
-- For each claim of a contact: which outbounds by phone are held.
CREATE INDEX outbound_phone ON outbound (tenant_id, phase_id) WHERE phone IS NOT NULL;
CREATE INDEX outbound_contact_plan ON outbound (tenant_id, contact_plan) WHERE contact_plan IS NOT NULL;

-- member_seq and offer_id: the member of the audience that is called, and what about. ends_at: from then
-- on it is given up. end_reason: why it was called off or given up without an outcome that says so; one
-- that somebody is at is called off for it once it is free. end_code: why the customer could not be called at
-- all, for follow-ups.
ALTER TABLE planned_contact
    ADD COLUMN member_seq bigint,
    ADD COLUMN offer_id   uuid,
    ADD COLUMN ends_at    timestamptz,
    ADD COLUMN end_reason text NOT NULL DEFAULT '',
    ADD COLUMN end_code   text NOT NULL DEFAULT '' CHECK (end_code IN ('', 'no_document', 'no_number')),
    ADD FOREIGN KEY (tenant_id, offer_id) REFERENCES offer ON DELETE CASCADE;
-- One for each outbound and member, however often its launch is begun again.
CREATE UNIQUE INDEX planned_contact_member ON planned_contact (tenant_id, outbound_id, member_seq)
    WHERE outbound_id IS NOT NULL;
DROP INDEX planned_contact_outbound;
CREATE INDEX planned_contact_offer ON planned_contact (tenant_id, offer_id) WHERE offer_id IS NOT NULL;
-- What keeps a phase from being complete, and is called off with it.
CREATE INDEX planned_contact_unfinished ON planned_contact (tenant_id, outbound_id)
    WHERE outbound_id IS NOT NULL AND state IN ('open', 'waiting', 'claimed');
CREATE INDEX planned_contact_ends ON planned_contact (tenant_id, ends_at)
    WHERE ends_at IS NOT NULL AND state IN ('open', 'waiting');
-- Several follow-ups may come from one message.
DROP INDEX planned_contact_message;
CREATE INDEX planned_contact_message ON planned_contact (tenant_id, message_id)
    WHERE message_id IS NOT NULL;
