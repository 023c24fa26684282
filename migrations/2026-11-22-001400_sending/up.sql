-- A message is written three times while it is sent: claimed, marked, over. The mark changes only
-- its lease and when it was handed over; when no index holds these and its page has room, no index
-- is written. What is being sent is little, so finding leases that ran out among it is no work.
DROP INDEX message_leased;
CREATE INDEX message_leased ON message (tenant_id, account) WHERE state = 'sending';
ALTER TABLE message SET (fillfactor = 85);
