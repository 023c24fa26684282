-- What a launch would do, as of a day. Belongs to its operation, and goes with it.
CREATE TABLE dry_run (
    tenant_id          uuid NOT NULL REFERENCES tenant,
    dry_run_id         uuid NOT NULL,
    as_of              date NOT NULL,
    product_version_id uuid NOT NULL,
    selection_id       uuid,
    selection_version  integer,
    criteria           jsonb NOT NULL,
    deselected         text[] NOT NULL DEFAULT '{}',
    included           text[] NOT NULL DEFAULT '{}',
    reaction           jsonb,
    frozen_at          timestamptz,
    candidates         bigint NOT NULL DEFAULT 0,
    members            bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, dry_run_id),
    FOREIGN KEY (tenant_id, dry_run_id) REFERENCES operation ON DELETE CASCADE
);
SELECT anklang_secure('dry_run');

-- As audience_member. No keys to customers and contracts: it is gone within days, and what names one
-- that is gone is not shown.
CREATE TABLE dry_run_candidate (
    tenant_id        uuid NOT NULL,
    dry_run_id       uuid NOT NULL,
    seq              bigint NOT NULL,
    customer_id      uuid NOT NULL,
    contract_id      uuid NOT NULL,
    contact_point_id uuid,
    exclusion        text,
    PRIMARY KEY (tenant_id, dry_run_id, seq),
    FOREIGN KEY (tenant_id, dry_run_id) REFERENCES dry_run ON DELETE CASCADE
);
SELECT anklang_secure('dry_run_candidate');
