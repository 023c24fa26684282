-- From how many members on a launch waits for a second person; without a row, or without a number, none does.
CREATE TABLE approval_policy (
    tenant_id    uuid PRIMARY KEY REFERENCES tenant,
    members_over bigint CHECK (members_over >= 0),
    updated_by   text NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now()
);
SELECT anklang_secure('approval_policy');

-- unapproved: the phase needs an approval, and there is none (any more) of what it has to send. Nothing of it is
-- sent or called meanwhile, whatever its state. launched_by: who has asked for it, as callers are named.
ALTER TABLE phase
    ADD COLUMN unapproved  boolean NOT NULL DEFAULT false,
    ADD COLUMN launched_by text NOT NULL DEFAULT '',
    DROP CONSTRAINT phase_state_check,
    ADD CONSTRAINT phase_state_check
        CHECK (state IN ('planned', 'launching', 'awaiting_approval', 'active', 'completed', 'failed',
                         'cancelled'));

-- A phase that needs an approval: the limit that it is over, and the brands whose templates the last one covers.
CREATE TABLE launch_approval (
    tenant_id    uuid NOT NULL,
    phase_id     uuid NOT NULL,
    members_over bigint NOT NULL,
    brands       uuid[] NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, phase_id),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES phase
);
SELECT anklang_secure('launch_approval');

-- What people decided, and what made a decision void. content: what was approved.
CREATE TABLE launch_decision (
    tenant_id  uuid NOT NULL,
    phase_id   uuid NOT NULL,
    id         uuid NOT NULL DEFAULT anklang_uuid7(),
    kind       text NOT NULL CHECK (kind IN ('approved', 'refused', 'voided')),
    decided_by text NOT NULL DEFAULT '',
    decided_at timestamptz NOT NULL DEFAULT now(),
    remark     text NOT NULL DEFAULT '',
    hash       bytea CHECK (length(hash) = 32),
    content    jsonb,
    PRIMARY KEY (tenant_id, phase_id, id),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES launch_approval
);
SELECT anklang_secure('launch_decision', append_only => true);

-- Whether something of a phase may still go out: by a message, also one in doubt, or by a call.
CREATE FUNCTION anklang_is_unsent(of_tenant uuid, of_phase uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM message m WHERE m.tenant_id = of_tenant AND m.phase_id = of_phase
                     AND m.state IN ('queued', 'sending'))
        OR EXISTS (SELECT FROM message m WHERE m.tenant_id = of_tenant AND m.phase_id = of_phase
                     AND m.state = 'ambiguous')
        OR EXISTS (SELECT FROM outbound o CROSS JOIN LATERAL (
                       SELECT FROM planned_contact k WHERE k.tenant_id = o.tenant_id AND k.outbound_id = o.id
                         AND k.state IN ('open', 'waiting', 'claimed') LIMIT 1) x
                   WHERE o.tenant_id = of_tenant AND o.phase_id = of_phase AND o.phone IS NOT NULL)
$$;

-- Approvals of a tenant take turns with changes of what they cover: approving takes this lock alone, changing
-- shares it. So an approval sees what was changed before, and a change the approval that came before it.
CREATE FUNCTION anklang_share_approvals(of_tenant uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared(hashtextextended('approvals ' || of_tenant::text, 0))
$$;

-- Takes the approvals of phases back whose content has changed. Those with something left to send wait for
-- another one. The caller shares the lock of approvals, by a statement before.
CREATE FUNCTION anklang_void_approvals(of_tenant uuid, phases uuid[], why text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    approved uuid;
BEGIN
    FOR approved IN
        SELECT p.id FROM phase p
        WHERE p.tenant_id = of_tenant AND p.id = ANY(phases) AND NOT p.unapproved
          AND p.state IN ('launching', 'active', 'completed')
        ORDER BY p.id FOR NO KEY UPDATE
    LOOP
        INSERT INTO launch_decision (tenant_id, phase_id, kind, remark)
        VALUES (of_tenant, approved, 'voided', why);
        UPDATE phase SET unapproved = true,
               state = CASE WHEN state = 'launching' THEN 'awaiting_approval'
                            WHEN state = 'active' AND anklang_is_unsent(of_tenant, approved)
                            THEN 'awaiting_approval' ELSE state END
        WHERE tenant_id = of_tenant AND id = approved;
    END LOOP;
END
$$;

-- The outbounds of a tenant's phases with an approval that holds.
CREATE FUNCTION anklang_approved(of_tenant uuid)
    RETURNS TABLE (phase_id uuid, id uuid, account text, route text, message_template text,
                   product_version_id uuid, brands uuid[])
    LANGUAGE sql STABLE AS $$
    SELECT o.phase_id, o.id, o.account, o.route, o.message_template, p.product_version_id, a.brands
    FROM launch_approval a
    JOIN phase p ON p.tenant_id = a.tenant_id AND p.id = a.phase_id AND NOT p.unapproved
         AND p.state IN ('launching', 'active', 'completed')
    JOIN outbound o ON o.tenant_id = a.tenant_id AND o.phase_id = a.phase_id
    WHERE a.tenant_id = of_tenant
$$;

CREATE FUNCTION template_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed template%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    PERFORM anklang_share_approvals(changed.tenant_id);
    PERFORM anklang_void_approvals(changed.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(changed.tenant_id) o
        WHERE o.message_template = changed.key AND changed.brand_id = ANY(o.brands)),
        'the template ' || changed.key || '.' || changed.language || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER template_voids_approvals AFTER INSERT OR UPDATE OR DELETE ON template
    FOR EACH ROW EXECUTE FUNCTION template_voids_approvals();

CREATE FUNCTION brand_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o
        WHERE NEW.id = ANY(o.brands)),
        'the brand ' || NEW.code || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER brand_voids_approvals AFTER UPDATE ON brand
    FOR EACH ROW WHEN (to_jsonb(OLD) - 'updated_at' IS DISTINCT FROM to_jsonb(NEW) - 'updated_at')
    EXECUTE FUNCTION brand_voids_approvals();

CREATE FUNCTION product_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o
        JOIN product_version v ON v.tenant_id = NEW.tenant_id AND v.id = o.product_version_id
        WHERE v.product_id = NEW.id),
        'the product ' || NEW.number || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER product_voids_approvals AFTER UPDATE ON product
    FOR EACH ROW WHEN (to_jsonb(OLD) - 'updated_at' IS DISTINCT FROM to_jsonb(NEW) - 'updated_at')
    EXECUTE FUNCTION product_voids_approvals();

CREATE FUNCTION product_version_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o
        WHERE o.product_version_id = NEW.id),
        'the product version ' || NEW.code || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER product_version_voids_approvals AFTER UPDATE ON product_version
    FOR EACH ROW WHEN (to_jsonb(OLD) - 'updated_at' IS DISTINCT FROM to_jsonb(NEW) - 'updated_at')
    EXECUTE FUNCTION product_version_voids_approvals();

CREATE FUNCTION channel_route_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o WHERE o.route = NEW.id),
        'the route ' || NEW.id || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER channel_route_voids_approvals AFTER UPDATE ON channel_route
    FOR EACH ROW WHEN (to_jsonb(OLD) - '{updated_at,display_name}'::text[]
                       IS DISTINCT FROM to_jsonb(NEW) - '{updated_at,display_name}'::text[])
    EXECUTE FUNCTION channel_route_voids_approvals();

CREATE FUNCTION channel_account_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o
        WHERE o.account = NEW.id AND o.route IS NULL),
        'the account ' || NEW.id || ' was replaced');
    RETURN NULL;
END
$$;
CREATE TRIGGER channel_account_voids_approvals AFTER UPDATE ON channel_account
    FOR EACH ROW WHEN (OLD.replaced_by IS DISTINCT FROM NEW.replaced_by)
    EXECUTE FUNCTION channel_account_voids_approvals();

CREATE FUNCTION outbound_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o WHERE o.id = NEW.id),
        'the outbound has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbound_voids_approvals AFTER UPDATE ON outbound
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION outbound_voids_approvals();

-- A contract that comes to a brand whose templates nobody has approved.
CREATE FUNCTION contract_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_approved(NEW.tenant_id) o
        WHERE NOT NEW.brand_id = ANY(o.brands) AND EXISTS (
            SELECT FROM audience_member m WHERE m.tenant_id = NEW.tenant_id AND m.phase_id = o.phase_id
              AND m.contract_id = NEW.id AND m.exclusion IS NULL)),
        'the contract ' || NEW.number || ' has come to another brand');
    RETURN NULL;
END
$$;
CREATE TRIGGER contract_voids_approvals AFTER UPDATE ON contract
    FOR EACH ROW WHEN (OLD.brand_id IS DISTINCT FROM NEW.brand_id)
    EXECUTE FUNCTION contract_voids_approvals();

-- The phase's own facts. Its row is locked by whoever changes it and by whoever approves it.
CREATE FUNCTION phase_voids_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM launch_approval WHERE tenant_id = NEW.tenant_id AND phase_id = NEW.id) THEN
        RETURN NEW;
    END IF;
    INSERT INTO launch_decision (tenant_id, phase_id, kind, remark)
    VALUES (NEW.tenant_id, NEW.id, 'voided', 'the phase has changed');
    NEW.unapproved := true;
    IF NEW.state = 'launching' OR NEW.state = 'active' AND anklang_is_unsent(NEW.tenant_id, NEW.id) THEN
        NEW.state := 'awaiting_approval';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER phase_voids_approval BEFORE UPDATE ON phase
    FOR EACH ROW WHEN (NOT OLD.unapproved AND NOT NEW.unapproved
        AND NEW.state IN ('launching', 'active', 'completed')
        AND (OLD.name, OLD.product_version_id, OLD.offer_valid_until, OLD.start_date, OLD.end_date)
            IS DISTINCT FROM
            (NEW.name, NEW.product_version_id, NEW.offer_valid_until, NEW.start_date, NEW.end_date))
    EXECUTE FUNCTION phase_voids_approval();

-- Webhooks hear of it in the transaction that makes it so, whatever does. docs/handover.md describes `data`:
-- fields are added, never renamed or removed.
CREATE FUNCTION phase_announces_approval() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted CONSTANT text := 'anklang.launch.awaiting_approval.v1';
    told   handover_event%ROWTYPE;
BEGIN
    IF NOT EXISTS (SELECT FROM webhook w WHERE w.tenant_id = NEW.tenant_id AND w.deleted_at IS NULL
                     AND (cardinality(w.event_types) = 0 OR wanted = ANY(w.event_types))) THEN
        RETURN NULL;
    END IF;
    INSERT INTO handover_event (tenant_id, type, subject, data)
    SELECT NEW.tenant_id, wanted, 'campaigns/' || NEW.campaign_id || '/phases/' || NEW.number,
           jsonb_build_object(
               'campaign', 'campaigns/' || NEW.campaign_id, 'phase', NEW.number,
               'campaign_name', c.name, 'phase_name', NEW.name, 'launched_by', NEW.launched_by,
               'members', a.members,
               'reason', coalesce((SELECT d.remark FROM launch_decision d
                   WHERE d.tenant_id = NEW.tenant_id AND d.phase_id = NEW.id
                   ORDER BY d.id DESC LIMIT 1), ''),
               'event_time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    FROM campaign c, audience a
    WHERE c.tenant_id = NEW.tenant_id AND c.id = NEW.campaign_id
      AND a.tenant_id = NEW.tenant_id AND a.phase_id = NEW.id
    RETURNING * INTO told;
    INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
    SELECT told.tenant_id, w.id, told.id, told.seq FROM webhook w
    WHERE w.tenant_id = told.tenant_id AND w.deleted_at IS NULL
      AND (cardinality(w.event_types) = 0 OR wanted = ANY(w.event_types));
    RETURN NULL;
END
$$;
CREATE TRIGGER phase_announces_approval AFTER UPDATE ON phase
    FOR EACH ROW WHEN (NEW.state = 'awaiting_approval' AND OLD.state <> 'awaiting_approval')
    EXECUTE FUNCTION phase_announces_approval();
