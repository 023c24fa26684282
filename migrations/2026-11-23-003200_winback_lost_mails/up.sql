-- Mails of winback cases that came to nothing: the case is where it was before, and the template may go out again.
ALTER TABLE message ADD COLUMN winback_undone boolean NOT NULL DEFAULT false;
CREATE INDEX message_winback_lost ON message (tenant_id, id)
    WHERE winback_case_id IS NOT NULL AND notice IS NULL AND NOT winback_undone
      AND state IN ('failed', 'bounced', 'suppressed');
ALTER TABLE winback_mail
    ADD COLUMN undone boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT winback_mail_tenant_id_case_id_template_key;
CREATE UNIQUE INDEX winback_mail_once ON winback_mail (tenant_id, case_id, template) WHERE NOT undone;
CREATE INDEX winback_mail_case ON winback_mail (tenant_id, case_id);
