DROP INDEX planned_contact_held;
DROP INDEX planned_contact_aside;
DROP INDEX planned_contact_group;
DROP INDEX planned_contact_work;
CREATE INDEX planned_contact_work ON planned_contact (tenant_id, responsible, priority DESC, next_at, id)
    WHERE state IN ('open', 'waiting');
DROP TRIGGER regroup_contacts ON customer;
DROP FUNCTION anklang_regroup_contacts;
DROP TRIGGER contact_group ON planned_contact;
DROP FUNCTION anklang_contact_group;
ALTER TABLE planned_contact
    DROP COLUMN customer_group,
    DROP COLUMN passed_over,
    DROP COLUMN not_before;
