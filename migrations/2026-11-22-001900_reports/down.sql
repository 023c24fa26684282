DELETE FROM handover_event WHERE type LIKE 'anklang.message.%' OR type LIKE 'anklang.inbound.%';
DROP TABLE inbound_message, waiting_report, message_report;
DROP INDEX message_told, message_ambiguous, message_provider;
ALTER TABLE message DROP COLUMN lookups, DROP COLUMN told_at, DROP COLUMN told;
