DELETE FROM winback_mail WHERE undone;
DROP INDEX winback_mail_case;
DROP INDEX winback_mail_once;
ALTER TABLE winback_mail
    DROP COLUMN undone,
    ADD UNIQUE (tenant_id, case_id, template);
DROP INDEX message_winback_lost;
ALTER TABLE message DROP COLUMN winback_undone;
