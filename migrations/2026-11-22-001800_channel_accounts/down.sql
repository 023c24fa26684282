ALTER TABLE account_pace
    DROP COLUMN held_since, DROP COLUMN failing_since, DROP COLUMN failing_reason, DROP COLUMN probe_at;
ALTER TABLE message_attempt DROP COLUMN account;
DROP INDEX outbound_route;
ALTER TABLE outbound DROP COLUMN route;
DROP TABLE channel_route;
DROP TABLE channel_account;
