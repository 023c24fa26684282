-- not_before: the work list passes the contact over until then, and passed_over says why; a contact that was
-- given back stands behind those that were due before. Whoever takes, moves or generates it anew clears both.
-- customer_group: the customer's, kept here so that who asks for certain groups finds theirs by an index.
ALTER TABLE planned_contact
    ADD COLUMN not_before timestamptz,
    ADD COLUMN passed_over text NOT NULL DEFAULT ''
        CHECK (passed_over IN ('', 'outside_window', 'no_workday', 'customer_inactive', 'number_blocked',
                               'no_consent', 'budget_used_up', 'held', 'ended')),
    ADD COLUMN customer_group text;

-- Contacts that are over are handed out no more.
UPDATE planned_contact k SET customer_group = c.customer_group
FROM customer c
WHERE c.tenant_id = k.tenant_id AND c.id = k.customer_id AND c.customer_group <> ''
  AND k.state IN ('open', 'waiting', 'claimed');

-- Generations say it themselves, which is faster for many.
CREATE FUNCTION anklang_contact_group() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.customer_group INTO NEW.customer_group
    FROM customer c WHERE c.tenant_id = NEW.tenant_id AND c.id = NEW.customer_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER contact_group BEFORE INSERT ON planned_contact
    FOR EACH ROW WHEN (NEW.customer_group IS NULL) EXECUTE FUNCTION anklang_contact_group();

CREATE FUNCTION anklang_regroup_contacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Held first, so that the update finds them as they are.
    PERFORM FROM planned_contact
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id
      AND state IN ('open', 'waiting', 'claimed')
    ORDER BY id FOR UPDATE;
    UPDATE planned_contact SET customer_group = NEW.customer_group
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id
      AND state IN ('open', 'waiting', 'claimed');
    RETURN NULL;
END
$$;
CREATE TRIGGER regroup_contacts AFTER UPDATE OF customer_group ON customer
    FOR EACH ROW WHEN (OLD.customer_group IS DISTINCT FROM NEW.customer_group)
    EXECUTE FUNCTION anklang_regroup_contacts();

-- The work list, in the order in which contacts are handed out; the same for those who ask for groups.
DROP INDEX planned_contact_work;
CREATE INDEX planned_contact_work
    ON planned_contact (tenant_id, responsible, priority DESC, greatest(next_at, not_before), id)
    WHERE state IN ('open', 'waiting');
CREATE INDEX planned_contact_group
    ON planned_contact (tenant_id, customer_group, responsible, priority DESC,
                        greatest(next_at, not_before), id)
    WHERE state IN ('open', 'waiting') AND customer_group <> '';
-- What was put aside, for when that is over, or its campaign goes on.
CREATE INDEX planned_contact_aside ON planned_contact (tenant_id, not_before)
    WHERE state IN ('open', 'waiting') AND passed_over <> '';
CREATE INDEX planned_contact_held ON planned_contact (tenant_id, outbound_id)
    WHERE state IN ('open', 'waiting') AND passed_over = 'held';
