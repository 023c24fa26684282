DELETE FROM message WHERE planned_contact_id IS NOT NULL OR notice IS NOT NULL;
ALTER TABLE message
    DROP CONSTRAINT message_belongs,
    DROP COLUMN planned_contact_id,
    DROP COLUMN notice,
    DROP COLUMN brand_id,
    DROP COLUMN template,
    ADD CONSTRAINT message_belongs CHECK (
        num_nonnulls(offer_id, winback_case_id) = 1
        AND num_nonnulls(offer_id, campaign_id, outbound_id, member_seq) IN (0, 4));
ALTER TABLE contact_plan DROP COLUMN follow_up_messages;
