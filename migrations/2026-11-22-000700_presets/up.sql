-- Criteria that administrators prepare, with holes to fill.
CREATE TABLE selection_preset (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    code        text NOT NULL CHECK (code ~ '^[a-z][a-z0-9-]{0,62}$'),
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    subject     text NOT NULL CHECK (subject IN ('customer', 'contract')),
    criteria    jsonb NOT NULL,
    parameters  jsonb NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, code)
);
SELECT anklang_secure('selection_preset');

-- What every tenant begins with: the mask for supply accounts. A trigger, so that tenants have it
-- whichever release adds them.
CREATE FUNCTION anklang_ship_presets(new_tenant uuid) RETURNS void
    LANGUAGE sql
    BEGIN ATOMIC
    INSERT INTO selection_preset (tenant_id, code, name, description, subject, criteria, parameters)
    VALUES (new_tenant, 'supply-accounts', 'Anlagenkonten',
        'Anlagenkonten nach Versorgungsstatus, prognostiziertem Jahresverbrauch, Postleitzahl und Tarifzeitscheibe. Was leer bleibt, schränkt nicht ein.',
        'contract',
        '{"node": "all", "criteria": [
            {"node": "compare", "field": "supply_status", "operator": "in", "values": [
                {"type": "parameter", "value": "supply_status"}]},
            {"node": "compare", "field": "annual_quantity_kwh", "operator": "between", "values": [
                {"type": "parameter", "value": "annual_quantity_from"},
                {"type": "parameter", "value": "annual_quantity_to"}]},
            {"node": "compare", "field": "site_postal_code", "operator": "between", "values": [
                {"type": "parameter", "value": "postal_code_from"},
                {"type": "parameter", "value": "postal_code_to"}]},
            {"node": "compare", "field": "product_version", "operator": "in", "values": [
                {"type": "parameter", "value": "product_versions"}]}]}',
        '[{"name": "supply_status", "display_name": "Versorgungsstatus",
           "description": "AU: aktiv unbefristet, AB: aktiv befristet.", "type": "text",
           "required": true, "multiple": true,
           "defaults": [{"type": "text", "value": "AU"}, {"type": "text", "value": "AB"}],
           "allowed": [{"type": "text", "value": "AU"}, {"type": "text", "value": "AB"}]},
          {"name": "annual_quantity_from", "display_name": "Progn. Jahresverbrauch von (kWh)", "type": "number"},
          {"name": "annual_quantity_to", "display_name": "Progn. Jahresverbrauch bis (kWh)", "type": "number"},
          {"name": "postal_code_from", "display_name": "Postleitzahl von", "type": "text"},
          {"name": "postal_code_to", "display_name": "Postleitzahl bis", "type": "text"},
          {"name": "product_versions", "display_name": "Tarifzeitscheiben",
           "description": "products/{Nummer}/versions/{Code}", "type": "text", "multiple": true}]')
    ON CONFLICT DO NOTHING;
END;
CREATE FUNCTION anklang_tenant_added() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_ship_presets(NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER ship_presets AFTER INSERT ON tenant
    FOR EACH ROW EXECUTE FUNCTION anklang_tenant_added();
SELECT anklang_ship_presets(id) FROM tenant;

-- What selections were. Written by a trigger, so that a release that knows nothing of it leaves
-- no gaps while it still serves.
CREATE TABLE selection_version (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    selection_id uuid NOT NULL,
    version      integer NOT NULL,
    name         text NOT NULL,
    description  text NOT NULL,
    criteria     jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, selection_id, version),
    FOREIGN KEY (tenant_id, selection_id) REFERENCES selection ON DELETE CASCADE
);
SELECT anklang_secure('selection_version', append_only => true);
CREATE FUNCTION anklang_selection_saved() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO selection_version (tenant_id, selection_id, version, name, description, criteria)
    VALUES (NEW.tenant_id, NEW.id, NEW.version, NEW.name, NEW.description, NEW.criteria)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER keep_version AFTER INSERT OR UPDATE ON selection
    FOR EACH ROW EXECUTE FUNCTION anklang_selection_saved();
INSERT INTO selection_version (tenant_id, selection_id, version, name, description, criteria, created_at)
SELECT tenant_id, id, version, name, description, criteria, updated_at FROM selection;

-- Customers or contracts that a person has ticked, in or out, whatever the criteria say.
CREATE TABLE selection_tick (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    selection_id uuid NOT NULL,
    customer_id  uuid,
    contract_id  uuid,
    member_id    uuid NOT NULL GENERATED ALWAYS AS (coalesce(contract_id, customer_id)) STORED,
    tick         text NOT NULL CHECK (tick IN ('included', 'excluded')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, selection_id, member_id),
    CHECK (num_nonnulls(customer_id, contract_id) = 1),
    FOREIGN KEY (tenant_id, selection_id) REFERENCES selection ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contract ON DELETE CASCADE
);
CREATE INDEX selection_tick_customer ON selection_tick (tenant_id, customer_id)
    WHERE customer_id IS NOT NULL;
CREATE INDEX selection_tick_contract ON selection_tick (tenant_id, contract_id)
    WHERE contract_id IS NOT NULL;
SELECT anklang_secure('selection_tick');

-- Contracts that were ticked in the selection when the launch was asked for; those ticked out are
-- among the deselected.
ALTER TABLE audience ADD COLUMN included text[] NOT NULL DEFAULT '{}';
