-- Customers belong to org units, and some callers are bound to units: they see and work on the customers of
-- these and all below, and nothing of others.

-- The role of their transactions: as anklang_app, whose policies and rights it has, but bounded by the
-- policies `units` and `units_delete`. Nobody else is looked at by these. As in the foundation, another database may have made it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anklang_scoped') THEN
        BEGIN
            CREATE ROLE anklang_scoped NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_has_role('anklang_scoped', 'anklang_app', 'USAGE') THEN
        BEGIN
            GRANT anklang_app TO anklang_scoped;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'anklang_scoped',
                       CASE WHEN current_setting('server_version_num')::int >= 160000
                            THEN 'SET' ELSE 'MEMBER' END) THEN
        EXECUTE format('GRANT anklang_scoped TO %I', current_user);
    END IF;
END
$$;

ALTER TABLE customer
    ADD COLUMN org_unit_code text,
    ADD FOREIGN KEY (tenant_id, org_unit_code) REFERENCES org_unit;
CREATE INDEX customer_org_unit ON customer (tenant_id, org_unit_code);

-- The units that the transaction is bound to, set by the server: a list in JSON, in hexadecimal digits.
CREATE FUNCTION anklang_roots() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
    SELECT coalesce(array_agg(root), '{}') FROM jsonb_array_elements_text(
        convert_from(decode(nullif(current_setting('anklang.units', true), ''), 'hex'), 'UTF8')::jsonb)
        AS given (root);
    END;

-- These and all below them, as the tree stands.
CREATE FUNCTION anklang_units() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
    WITH RECURSIVE below (code) AS (
        SELECT u.code FROM org_unit u
        WHERE u.tenant_id = anklang_tenant() AND u.code = ANY (anklang_roots())
        UNION
        SELECT u.code FROM below b
        JOIN org_unit u ON u.tenant_id = anklang_tenant() AND u.parent_code = b.code)
    SELECT coalesce(array_agg(code), '{}') FROM below;
    END;

-- These and all above them: what is shared with one of them is shared with those below it.
CREATE FUNCTION anklang_units_above() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
    WITH RECURSIVE above (code, parent_code) AS (
        SELECT u.code, u.parent_code FROM org_unit u
        WHERE u.tenant_id = anklang_tenant() AND u.code = ANY (anklang_roots())
        UNION
        SELECT u.code, u.parent_code FROM above a
        JOIN org_unit u ON u.tenant_id = anklang_tenant() AND u.code = a.parent_code)
    SELECT coalesce(array_agg(code), '{}') FROM above;
    END;

-- Says what anklang_scoped sees of a table, and what it may write there; by default what it sees. {table} is
-- the table.
CREATE FUNCTION anklang_bound(target regclass, visible text, writable text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    old name;
BEGIN
    visible := replace(visible, '{table}', target::text);
    writable := coalesce(replace(writable, '{table}', target::text), visible);
    FOR old IN SELECT polname FROM pg_policy
               WHERE polrelid = target AND polname IN ('units', 'units_delete') LOOP
        EXECUTE format('DROP POLICY %I ON %s', old, target);
    END LOOP;
    EXECUTE format('CREATE POLICY units ON %s AS RESTRICTIVE TO anklang_scoped USING (%s) WITH CHECK (%s)',
                   target, visible, writable);
    -- What is deleted is asked for what is visible alone.
    EXECUTE format('CREATE POLICY units_delete ON %s AS RESTRICTIVE FOR DELETE TO anklang_scoped USING (%s)',
                   target, writable);
END
$$;

-- As before, and closed to callers who are bound to org units until anklang_bound says what they see.
CREATE OR REPLACE FUNCTION anklang_secure(target regclass, append_only boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    rights text := CASE WHEN append_only THEN 'SELECT, INSERT' ELSE 'SELECT, INSERT, UPDATE, DELETE' END;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY tenant ON %s TO anklang_app
                    USING (tenant_id = (SELECT anklang_tenant()))', target);
    EXECUTE format('CREATE POLICY worker ON %s TO anklang_worker USING (true)', target);
    EXECUTE format('GRANT %s ON %s TO anklang_app, anklang_worker', rights, target);
    PERFORM anklang_bound(target, 'false');
END
$$;

-- What is said of no table below is closed: operations, webhooks and what they are told, accounts, audiences,
-- bundles, detections, numbers, pools of vouchers and so on.
SELECT anklang_bound(c.oid::regclass, 'false')
FROM pg_class c
WHERE c.relkind = 'r' AND c.relrowsecurity
  AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'customer'::regclass);

-- The tenant's common things: readable. Everything else of the tenant that a claim of a contact or a case looks
-- at is among them: the contact budget, blocked addresses (hashes), mailings for their control groups.
SELECT anklang_bound(common, 'true', 'false')
FROM unnest(ARRAY[
    'org_unit', 'brand', 'product', 'product_version', 'attribute_definition', 'selection_preset', 'template',
    'campaign', 'phase', 'outbound', 'contact_plan', 'plan_exception', 'workday_calendar', 'contact_outcome',
    'winback_settings', 'winback_mailing', 'contact_budget', 'suppression']::regclass[]) AS t (common);

-- Answers of calls with a request_id: the server compares whose call it was before it gives one again. A row
-- that is hidden could not be told from one that there is not.
SELECT anklang_bound('request_log', 'true');

-- What they do is written down as anybody's.
SELECT anklang_bound('audit_entry', 'false', 'true');

-- As an array, so that the index serves it.
SELECT anklang_bound('customer', 'org_unit_code = ANY ((SELECT anklang_units())::text[])');

-- What is a customer's is seen with the customer, whose own policy holds inside.
SELECT anklang_bound(of_customer, 'EXISTS (SELECT FROM customer c
    WHERE c.tenant_id = {table}.tenant_id AND c.id = {table}.customer_id)')
FROM unnest(ARRAY[
    'contact_point', 'consent', 'customer_attribute', 'customer_event', 'contract', 'sales_order', 'offer', 'message',
    'inbound_message', 'audience_member', 'dry_run_candidate', 'plan_entry', 'inactive_period', 'planned_contact',
    'contact_attempt', 'voucher', 'winback_figure', 'winback_case', 'winback_control',
    'winback_mailing_member']::regclass[]) AS t (of_customer);

-- And what hangs on that.
SELECT anklang_bound(part, format('EXISTS (SELECT FROM %1$s w
    WHERE w.tenant_id = {table}.tenant_id AND w.id = {table}.%2$I)', whole, key))
FROM (VALUES
    ('contract_item'::regclass, 'contract'::regclass, 'contract_id'),
    ('contract_attribute', 'contract', 'contract_id'),
    ('order_line', 'sales_order', 'order_id'),
    ('document', 'offer', 'offer_id'),
    ('message_attempt', 'message', 'message_id'),
    ('message_report', 'message', 'message_id'),
    ('winback_mail', 'message', 'message_id'),
    ('winback_case_event', 'winback_case', 'case_id')) AS t (part, whole, key);

-- Selections: the tenant's, those of the units, and what is shared with them.
SELECT anklang_bound('selection',
    'org_unit_code IS NULL OR org_unit_code = ANY ((SELECT anklang_units())::text[])
     OR shared_with && (SELECT anklang_units_above())',
    'false');
SELECT anklang_bound('selection_version', 'EXISTS (SELECT FROM selection w
    WHERE w.tenant_id = {table}.tenant_id AND w.id = {table}.selection_id)', 'false');
SELECT anklang_bound('selection_tick', 'EXISTS (SELECT FROM selection w
        WHERE w.tenant_id = {table}.tenant_id AND w.id = {table}.selection_id)
    AND (customer_id IS NULL OR EXISTS (SELECT FROM customer c
        WHERE c.tenant_id = {table}.tenant_id AND c.id = {table}.customer_id))
    AND (contract_id IS NULL OR EXISTS (SELECT FROM contract c
        WHERE c.tenant_id = {table}.tenant_id AND c.id = {table}.contract_id))', 'false');
