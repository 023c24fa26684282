-- A tenant's units, a tree: central, regions, agencies.
CREATE TABLE org_unit (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    code        text NOT NULL,
    name        text NOT NULL,
    parent_code text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, code),
    FOREIGN KEY (tenant_id, parent_code) REFERENCES org_unit,
    CHECK (parent_code <> code)
);
CREATE INDEX org_unit_parent ON org_unit (tenant_id, parent_code);
SELECT anklang_secure('org_unit');

-- Whose a selection is (null: the whole tenant's), and with which units and all below them it is
-- shared.
ALTER TABLE selection
    ADD COLUMN org_unit_code text,
    ADD COLUMN shared_with   text[] NOT NULL DEFAULT '{}',
    ADD FOREIGN KEY (tenant_id, org_unit_code) REFERENCES org_unit;
CREATE INDEX selection_org_unit ON selection (tenant_id, org_unit_code);
