-- What counted for somebody who then loosened the policy: it goes on counting for what they launch and mail
-- themselves, for so many hours.
CREATE TABLE former_approval_policy (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    id           uuid NOT NULL DEFAULT anklang_uuid7(),
    members_over bigint NOT NULL,
    window_hours integer NOT NULL,
    replaced_by  text NOT NULL,
    replaced_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT anklang_secure('former_approval_policy');
