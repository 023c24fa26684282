-- A claim of who is bound to org units ends when the customer moves to another unit, or to none: its holder may not
-- see the contact or case any more, and those who do shall not wait for it. It has run out then, as by itself, so that
-- what follows is what always follows. Claims of who sees all of the tenant stay.

-- claim_bound: who has the claim is bound to org units.
ALTER TABLE planned_contact ADD COLUMN claim_bound boolean NOT NULL DEFAULT false;
ALTER TABLE winback_case ADD COLUMN claim_bound boolean NOT NULL DEFAULT false;

CREATE FUNCTION anklang_claimed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Set by the server for the whole transaction, also where it goes on without bounds.
    NEW.claim_bound := NEW.claim_id IS NOT NULL AND coalesce(current_setting('anklang.units', true), '') <> '';
    RETURN NEW;
END
$$;
CREATE TRIGGER claimed BEFORE UPDATE OF claim_id ON planned_contact
    FOR EACH ROW WHEN (NEW.claim_id IS DISTINCT FROM OLD.claim_id) EXECUTE FUNCTION anklang_claimed();
CREATE TRIGGER claimed BEFORE UPDATE OF claim_id ON winback_case
    FOR EACH ROW WHEN (NEW.claim_id IS DISTINCT FROM OLD.claim_id) EXECUTE FUNCTION anklang_claimed();

CREATE FUNCTION anklang_end_claims() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Held first, so that the updates find them as they are.
    PERFORM FROM planned_contact
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND state = 'claimed' AND claim_bound
    ORDER BY id FOR UPDATE;
    UPDATE planned_contact SET claim_until = now(), updated_at = now()
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND state = 'claimed' AND claim_bound
      AND claim_until > now();
    PERFORM FROM winback_case
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND claim_bound
    ORDER BY id FOR UPDATE;
    UPDATE winback_case SET held_until = now()
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND claim_bound AND held_until > now();
    RETURN NULL;
END
$$;
CREATE TRIGGER end_claims AFTER UPDATE OF org_unit_code ON customer
    FOR EACH ROW WHEN (OLD.org_unit_code IS DISTINCT FROM NEW.org_unit_code)
    EXECUTE FUNCTION anklang_end_claims();
