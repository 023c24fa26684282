-- The W3C trace context in which work was asked for, so that whoever does it later goes on with the
-- same trace. Nobody writes these columns: the transaction's context is their default, and without
-- one they are NULL. The default comes after the column, so that no table is rewritten.
ALTER TABLE operation ADD COLUMN traceparent text;
ALTER TABLE message ADD COLUMN traceparent text;
ALTER TABLE handover_event ADD COLUMN traceparent text;

ALTER TABLE operation ALTER COLUMN traceparent
    SET DEFAULT nullif(current_setting('anklang.traceparent', true), '');
ALTER TABLE message ALTER COLUMN traceparent
    SET DEFAULT nullif(current_setting('anklang.traceparent', true), '');
ALTER TABLE handover_event ALTER COLUMN traceparent
    SET DEFAULT nullif(current_setting('anklang.traceparent', true), '');
