-- Rows that point to something of the tenant need no key to the tenant itself: what they point to has
-- one. Each of these keys cost a look at the tenant's row for each row that is written.
ALTER TABLE contact_point DROP CONSTRAINT contact_point_tenant_id_fkey;
ALTER TABLE consent DROP CONSTRAINT consent_tenant_id_fkey;
ALTER TABLE contract DROP CONSTRAINT contract_tenant_id_fkey;
ALTER TABLE contract_item DROP CONSTRAINT contract_item_tenant_id_fkey;
ALTER TABLE sales_order DROP CONSTRAINT sales_order_tenant_id_fkey;
ALTER TABLE order_line DROP CONSTRAINT order_line_tenant_id_fkey;
ALTER TABLE customer_attribute DROP CONSTRAINT customer_attribute_tenant_id_fkey;
ALTER TABLE contract_attribute DROP CONSTRAINT contract_attribute_tenant_id_fkey;
ALTER TABLE audience_member DROP CONSTRAINT audience_member_tenant_id_fkey;
ALTER TABLE offer DROP CONSTRAINT offer_tenant_id_fkey;
ALTER TABLE document DROP CONSTRAINT document_tenant_id_fkey;
ALTER TABLE message DROP CONSTRAINT message_tenant_id_fkey;
ALTER TABLE message_attempt DROP CONSTRAINT message_attempt_tenant_id_fkey;
ALTER TABLE customer_event DROP CONSTRAINT customer_event_tenant_id_fkey;
ALTER TABLE handover_delivery DROP CONSTRAINT handover_delivery_tenant_id_fkey;
