-- Orders that people take under a planned contact. state: '' for orders that came from the tenant's own
-- systems; taken, until the ERP has acknowledged it. taken_number is the number under which the order was
-- told to the ERP, which may give it another one.
ALTER TABLE sales_order
    ADD COLUMN delivery_date   date,
    ADD COLUMN departure       text NOT NULL DEFAULT '',
    ADD COLUMN order_type      text NOT NULL DEFAULT '',
    ADD COLUMN note            text NOT NULL DEFAULT '',
    ADD COLUMN contact_id      uuid,
    ADD COLUMN taken_by        text NOT NULL DEFAULT '',
    ADD COLUMN taken_number    text NOT NULL DEFAULT '',
    ADD COLUMN state           text NOT NULL DEFAULT ''
        CHECK (state IN ('', 'taken', 'accepted', 'rejected')),
    ADD COLUMN reject_reason   text NOT NULL DEFAULT '',
    ADD COLUMN acknowledged_at timestamptz,
    ADD CHECK ((state = '') = (taken_number = '')),
    ADD FOREIGN KEY (tenant_id, contact_id) REFERENCES planned_contact ON DELETE SET NULL (contact_id);
CREATE UNIQUE INDEX sales_order_taken_number ON sales_order (tenant_id, taken_number)
    WHERE taken_number <> '';
CREATE INDEX sales_order_delivery ON sales_order (tenant_id, customer_id, delivery_date, number)
    WHERE delivery_date IS NOT NULL;
CREATE INDEX sales_order_contact ON sales_order (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
-- What the ERP has not acknowledged.
CREATE INDEX sales_order_open ON sales_order (tenant_id, number) WHERE state = 'taken';
-- For whoever took it.
CREATE INDEX sales_order_rejected ON sales_order (tenant_id, taken_by, number) WHERE state = 'rejected';

-- Events of an order go with it, and are delivered in their order, as those of an offer.
ALTER TABLE handover_event
    ADD COLUMN order_id uuid,
    ADD FOREIGN KEY (tenant_id, order_id) REFERENCES sales_order ON DELETE CASCADE;
CREATE INDEX handover_event_order ON handover_event (tenant_id, order_id) WHERE order_id IS NOT NULL;
ALTER TABLE handover_delivery ADD COLUMN order_id uuid;
CREATE INDEX handover_delivery_of_order ON handover_delivery (tenant_id, webhook_id, order_id, seq)
    WHERE order_id IS NOT NULL AND state IN ('pending', 'delivering');
