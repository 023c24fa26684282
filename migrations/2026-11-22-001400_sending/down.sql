ALTER TABLE message RESET (fillfactor);
DROP INDEX message_leased;
CREATE INDEX message_leased ON message (tenant_id, lease_until) WHERE state = 'sending';
