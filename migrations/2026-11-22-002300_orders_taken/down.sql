DROP INDEX handover_delivery_of_order;
ALTER TABLE handover_delivery DROP COLUMN order_id;
ALTER TABLE handover_event DROP COLUMN order_id;
DELETE FROM number_range WHERE kind = 'order';
ALTER TABLE sales_order
    DROP COLUMN delivery_date, DROP COLUMN departure, DROP COLUMN order_type, DROP COLUMN note,
    DROP COLUMN contact_id, DROP COLUMN taken_by, DROP COLUMN taken_number, DROP COLUMN state,
    DROP COLUMN reject_reason, DROP COLUMN acknowledged_at;
