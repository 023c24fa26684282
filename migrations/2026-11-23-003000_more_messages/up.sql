-- Messages of planned contacts whose customer was not reached, and notices to the tenant's own people.

-- How a plan writes to customers: `[{channel, account, brand, template, purpose}]`, each channel once.
ALTER TABLE contact_plan ADD COLUMN follow_up_messages jsonb NOT NULL DEFAULT '[]';

-- A message carries an offer of an outbound, or belongs to a winback case or a planned contact. phase_id says
-- with what it shares its turns at an account: of single messages it is nothing but zeros. A notice goes to
-- people of the tenant; it belongs to a winback case, but is no contact of its customer.
ALTER TABLE message
    ADD COLUMN planned_contact_id uuid,
    -- What a notice says besides its customer.
    ADD COLUMN notice jsonb,
    -- Of messages of planned contacts and notices: whose template, and its key.
    ADD COLUMN brand_id uuid,
    ADD COLUMN template text,
    DROP CONSTRAINT message_belongs,
    ADD CONSTRAINT message_belongs CHECK (
        num_nonnulls(offer_id, winback_case_id, planned_contact_id) = 1
        AND num_nonnulls(offer_id, campaign_id, outbound_id, member_seq) IN (0, 4)
        AND (notice IS NULL OR winback_case_id IS NOT NULL)
        AND num_nonnulls(brand_id, template)
            = CASE WHEN num_nonnulls(planned_contact_id, notice) = 0 THEN 0 ELSE 2 END),
    ADD FOREIGN KEY (tenant_id, planned_contact_id) REFERENCES planned_contact ON DELETE CASCADE,
    ADD FOREIGN KEY (tenant_id, brand_id) REFERENCES brand;
-- A contact is followed up once on each channel.
CREATE UNIQUE INDEX message_planned_contact ON message (tenant_id, planned_contact_id, channel)
    WHERE planned_contact_id IS NOT NULL;
