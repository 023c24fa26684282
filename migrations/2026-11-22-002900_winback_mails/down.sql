DROP TABLE winback_mail;
DELETE FROM message WHERE winback_case_id IS NOT NULL;
ALTER TABLE message_report ALTER COLUMN campaign_id SET NOT NULL;
ALTER TABLE message
    DROP CONSTRAINT message_belongs,
    DROP COLUMN winback_case_id,
    ALTER COLUMN offer_id SET NOT NULL,
    ALTER COLUMN member_seq SET NOT NULL,
    ALTER COLUMN outbound_id SET NOT NULL,
    ALTER COLUMN campaign_id SET NOT NULL;
DROP TABLE winback_mailing_member, winback_control, winback_mailing, winback_sender, voucher, voucher_pool;
