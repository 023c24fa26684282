ALTER TABLE handover_event DROP COLUMN traceparent;
ALTER TABLE message DROP COLUMN traceparent;
ALTER TABLE operation DROP COLUMN traceparent;
