-- A claim of who is bound to org units has run out once the customer is where its holder does not see it: those who do
-- shall not wait for it. That is looked at when it matters (store/src/units.rs, CLAIM_LEFT), and not by a trigger: whoever
-- moves customers waits for nobody, and it makes no difference which of move and claim was first. Claims of who sees all
-- of the tenant stay.

-- claim_units: the id of the claim, the units that its holder is bound to, and that of the customer when it was claimed.
-- With another id it is of an older claim: servers of the version before claim without it.
ALTER TABLE planned_contact ADD COLUMN claim_units text[];
ALTER TABLE winback_case ADD COLUMN claim_units text[];

-- The same for a claim of this transaction, also where it goes on without bounds; NULL for who sees all. A customer
-- that has left meanwhile adds nothing to the holder's own.
CREATE FUNCTION anklang_claim_units(of_tenant uuid, of_customer uuid, claim uuid) RETURNS text[]
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT ARRAY[claim::text] || anklang_roots() || ARRAY(
        SELECT c.org_unit_code FROM customer c
        WHERE c.tenant_id = of_tenant AND c.id = of_customer
          AND c.org_unit_code = ANY ((SELECT anklang_units())::text[]))
    WHERE coalesce(current_setting('anklang.units', true), '') <> '';
    END;

-- Whether a unit is one of these or below one.
CREATE FUNCTION anklang_is_within(of_tenant uuid, unit text, units text[]) RETURNS boolean
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    WITH RECURSIVE above (code, parent_code) AS (
        SELECT u.code, u.parent_code FROM org_unit u
        WHERE u.tenant_id = of_tenant AND u.code = unit
        UNION
        SELECT u.code, u.parent_code FROM above a
        JOIN org_unit u ON u.tenant_id = of_tenant AND u.code = a.parent_code)
    SELECT EXISTS (SELECT FROM above WHERE code = ANY (units));
    END;

-- Whether the tenant has at least so many customers, for who sees but some of them: to choose a way by. Counted and not
-- estimated: statistics know nothing of a tenant that is new. Of the transaction's own tenant alone.
CREATE FUNCTION anklang_has_customers(of_tenant uuid, at_least bigint) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    BEGIN ATOMIC
    SELECT count(*) >= at_least
    FROM (SELECT FROM customer c
          WHERE c.tenant_id = of_tenant AND of_tenant = anklang_tenant() LIMIT at_least) first;
    END;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION anklang_has_customers(uuid, bigint) SET search_path = pg_catalog, %I, pg_temp',
        current_schema());
END $$;
REVOKE ALL ON FUNCTION anklang_has_customers(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION anklang_has_customers(uuid, bigint) TO anklang_app;
