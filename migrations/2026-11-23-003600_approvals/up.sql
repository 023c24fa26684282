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
-- changed_by: who has changed what it has to send since then, or since it was approved last.
ALTER TABLE phase
    ADD COLUMN unapproved  boolean NOT NULL DEFAULT false,
    ADD COLUMN launched_by text NOT NULL DEFAULT '',
    ADD COLUMN changed_by  text[] NOT NULL DEFAULT '{}',
    DROP CONSTRAINT phase_state_check,
    ADD CONSTRAINT phase_state_check
        CHECK (state IN ('planned', 'launching', 'awaiting_approval', 'active', 'completed', 'failed',
                         'cancelled'));

-- A phase that needs an approval: the limit that it is over, and the brands of its members, whose templates it
-- is made of. The rest is of what the members get, once everything is made.
CREATE TABLE launch_approval (
    tenant_id        uuid NOT NULL,
    phase_id         uuid NOT NULL,
    members_over     bigint NOT NULL,
    brands           uuid[] NOT NULL,
    members          bigint,
    documents        bigint,
    failed_documents bigint,
    annual_amount    numeric,
    excluded         jsonb,
    members_sha256   bytea CHECK (length(members_sha256) = 32),
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, phase_id),
    FOREIGN KEY (tenant_id, phase_id) REFERENCES phase
);
SELECT anklang_secure('launch_approval');

-- What people decided, and what made a decision void: decided_by is then who has changed it, and empty when the
-- server did by itself. content: what was approved.
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

-- Whether something of a phase may still go out: by a message, also one in doubt, or by a call. After the last day
-- of its offers nothing does but messages to those whom nobody has reached.
CREATE FUNCTION anklang_is_unsent(of_tenant uuid, of_phase uuid, last_day date) RETURNS boolean
    LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM message m WHERE m.tenant_id = of_tenant AND m.phase_id = of_phase
                     AND m.state IN ('queued', 'sending')
                     AND (m.planned_contact_id IS NOT NULL OR last_day >= t.today))
        OR last_day >= t.today AND (
           EXISTS (SELECT FROM message m WHERE m.tenant_id = of_tenant AND m.phase_id = of_phase
                     AND m.state = 'ambiguous')
        OR EXISTS (SELECT FROM outbound o CROSS JOIN LATERAL (
                       SELECT FROM planned_contact k WHERE k.tenant_id = o.tenant_id AND k.outbound_id = o.id
                         AND k.state IN ('open', 'waiting', 'claimed') LIMIT 1) x
                   WHERE o.tenant_id = of_tenant AND o.phase_id = of_phase AND o.phone IS NOT NULL))
    FROM (SELECT (now() AT TIME ZONE time_zone)::date AS today FROM tenant WHERE id = of_tenant) t
$$;

-- Approvals of a tenant take turns with changes of what they cover: approving takes this lock alone, changing
-- shares it. So an approval sees what was changed before, and a change the approval that came before it.
CREATE FUNCTION anklang_share_approvals(of_tenant uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared(hashtextextended('approvals ' || of_tenant::text, 0))
$$;

-- Who makes the call that the transaction is for, set by the server in hexadecimal digits; empty where it works by
-- itself.
CREATE FUNCTION anklang_caller() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(convert_from(decode(nullif(current_setting('anklang.caller', true), ''), 'hex'), 'UTF8'), '')
$$;

-- These, and the caller, once.
CREATE FUNCTION anklang_and_caller(others text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN anklang_caller() = '' OR anklang_caller() = ANY(others) THEN others
                ELSE others || anklang_caller() END
$$;

-- Phases whose content has changed: an approval is taken back, and the phase waits for another one, which is not
-- to come from who has changed it. The caller shares the lock of approvals, by a statement before.
CREATE FUNCTION anklang_void_approvals(of_tenant uuid, phases uuid[], why text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    changed phase%ROWTYPE;
BEGIN
    FOR changed IN
        SELECT * FROM phase p
        WHERE p.tenant_id = of_tenant AND p.id = ANY(phases)
          AND p.state IN ('planned', 'launching', 'awaiting_approval', 'active', 'completed')
        ORDER BY p.id FOR NO KEY UPDATE
    LOOP
        IF NOT changed.unapproved AND EXISTS (
            SELECT FROM launch_approval WHERE tenant_id = of_tenant AND phase_id = changed.id) THEN
            INSERT INTO launch_decision (tenant_id, phase_id, kind, decided_by, remark)
            VALUES (of_tenant, changed.id, 'voided', anklang_caller(), why);
            changed.unapproved := true;
            changed.state := 'awaiting_approval';
        END IF;
        UPDATE phase SET unapproved = changed.unapproved, state = changed.state,
               changed_by = anklang_and_caller(changed_by)
        WHERE tenant_id = of_tenant AND id = changed.id;
    END LOOP;
END
$$;

-- The outbounds of a tenant's phases that need an approval, or may come to, and have something left to send. brands:
-- of the members; NULL as long as nobody knows them. document_template: NULL once the documents are made.
CREATE FUNCTION anklang_covered(of_tenant uuid)
    RETURNS TABLE (phase_id uuid, id uuid, account text, route text, message_template text,
                   document_template text, contact_plan text, product_version_id uuid, brands uuid[])
    LANGUAGE sql STABLE AS $$
    SELECT o.phase_id, o.id, o.account, o.route, o.message_template,
           CASE WHEN NOT c.made THEN o.document_template END, o.contact_plan, p.product_version_id, c.brands
    FROM (SELECT a.phase_id, a.brands, a.members_sha256 IS NOT NULL AS made
          FROM launch_approval a WHERE a.tenant_id = of_tenant
          UNION ALL
          SELECT f.id, NULL, false FROM phase f
          WHERE f.tenant_id = of_tenant AND f.state IN ('planned', 'launching')
            AND EXISTS (SELECT FROM approval_policy x
                        WHERE x.tenant_id = of_tenant AND x.members_over IS NOT NULL)
            AND NOT EXISTS (SELECT FROM launch_approval a
                            WHERE a.tenant_id = of_tenant AND a.phase_id = f.id)) c
    JOIN phase p ON p.tenant_id = of_tenant AND p.id = c.phase_id
    JOIN outbound o ON o.tenant_id = of_tenant AND o.phase_id = p.id
    WHERE CASE WHEN p.state IN ('planned', 'launching', 'awaiting_approval') THEN true
               WHEN p.state IN ('active', 'completed')
               THEN anklang_is_unsent(of_tenant, p.id, p.offer_valid_until)
               ELSE false END
$$;

-- The messages by which an outbound by phone writes to those whom nobody has reached: those of its plan.
CREATE FUNCTION anklang_follow_ups(of_tenant uuid, of_plan text)
    RETURNS TABLE (account text, brand text, template text) LANGUAGE sql STABLE AS $$
    SELECT m.f->>'account', m.f->>'brand', m.f->>'template'
    FROM contact_plan p CROSS JOIN LATERAL jsonb_array_elements(p.follow_up_messages) AS m (f)
    WHERE p.tenant_id = of_tenant AND p.code = of_plan
$$;

-- The accounts through which an outbound goes: its own and what has taken its place, those of its route, and
-- those of the messages of its plan.
CREATE FUNCTION anklang_accounts(of_tenant uuid, of_account text, of_route text, of_plan text) RETURNS text[]
    LANGUAGE sql STABLE AS $$
    SELECT array_agg(DISTINCT named.id) FROM (
        SELECT of_account AS id
        UNION ALL
        SELECT a.replaced_by FROM channel_account a WHERE a.tenant_id = of_tenant AND a.id = of_account
        UNION ALL
        SELECT unnest(r.accounts) FROM channel_route r WHERE r.tenant_id = of_tenant AND r.id = of_route
        UNION ALL
        SELECT f.account FROM anklang_follow_ups(of_tenant, of_plan) f) named
    WHERE named.id IS NOT NULL
$$;

CREATE FUNCTION template_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed template%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    PERFORM anklang_share_approvals(changed.tenant_id);
    PERFORM anklang_void_approvals(changed.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_covered(changed.tenant_id) o
        WHERE changed.key IN (o.message_template, o.document_template)
          AND (o.brands IS NULL OR changed.brand_id = ANY(o.brands))
           OR EXISTS (SELECT FROM anklang_follow_ups(changed.tenant_id, o.contact_plan) f
                      JOIN brand b ON b.tenant_id = changed.tenant_id AND b.code = f.brand
                      WHERE f.template = changed.key AND b.id = changed.brand_id)),
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
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o
        WHERE o.brands IS NULL OR NEW.id = ANY(o.brands)
           OR NEW.code IN (SELECT f.brand FROM anklang_follow_ups(NEW.tenant_id, o.contact_plan) f)),
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
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o
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
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o
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
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o WHERE o.route = NEW.id),
        'the route ' || NEW.id || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER channel_route_voids_approvals AFTER UPDATE ON channel_route
    FOR EACH ROW WHEN (to_jsonb(OLD) - '{updated_at,display_name}'::text[]
                       IS DISTINCT FROM to_jsonb(NEW) - '{updated_at,display_name}'::text[])
    EXECUTE FUNCTION channel_route_voids_approvals();

-- What it is and how it is set: not its secrets, its pace or a pause. A new one may take the place of an account of
-- the configuration file.
CREATE FUNCTION channel_account_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o
        WHERE NEW.id = ANY(anklang_accounts(NEW.tenant_id, o.account, o.route, o.contact_plan))),
        'the account ' || NEW.id || ' has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER channel_account_voids_approvals AFTER UPDATE ON channel_account
    FOR EACH ROW WHEN ((OLD.plugin, OLD.channel, OLD.config, OLD.replaced_by)
                       IS DISTINCT FROM (NEW.plugin, NEW.channel, NEW.config, NEW.replaced_by))
    EXECUTE FUNCTION channel_account_voids_approvals();
CREATE TRIGGER new_channel_account_voids_approvals AFTER INSERT ON channel_account
    FOR EACH ROW EXECUTE FUNCTION channel_account_voids_approvals();

CREATE FUNCTION contact_plan_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o WHERE o.contact_plan = NEW.code),
        'the messages of the contact plan ' || NEW.code || ' have changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER contact_plan_voids_approvals AFTER UPDATE ON contact_plan
    FOR EACH ROW WHEN (OLD.follow_up_messages IS DISTINCT FROM NEW.follow_up_messages)
    EXECUTE FUNCTION contact_plan_voids_approvals();

CREATE FUNCTION outbound_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o WHERE o.id = NEW.id),
        'the outbound has changed');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbound_voids_approvals AFTER UPDATE ON outbound
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION outbound_voids_approvals();

-- Contracts that come to a brand whose templates nobody has approved. Imports change many by one statement, and the
-- brand of hardly any.
CREATE FUNCTION contract_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_tenant uuid;
    hit       record;
BEGIN
    FOR of_tenant IN
        SELECT DISTINCT n.tenant_id FROM is_now n JOIN was w ON w.tenant_id = n.tenant_id AND w.id = n.id
        WHERE w.brand_id IS DISTINCT FROM n.brand_id
    LOOP
        PERFORM anklang_share_approvals(of_tenant);
        FOR hit IN
            SELECT o.phase_id, array_agg(DISTINCT m.brand_id) AS brands, min(m.number) AS number
            FROM anklang_covered(of_tenant) o
            JOIN (SELECT n.id, n.number, n.brand_id FROM is_now n
                  JOIN was w ON w.tenant_id = n.tenant_id AND w.id = n.id
                  WHERE n.tenant_id = of_tenant AND w.brand_id IS DISTINCT FROM n.brand_id) m
              ON NOT m.brand_id = ANY(o.brands)
            WHERE EXISTS (SELECT FROM audience_member a WHERE a.tenant_id = of_tenant
                            AND a.phase_id = o.phase_id AND a.contract_id = m.id AND a.exclusion IS NULL)
            GROUP BY o.phase_id ORDER BY o.phase_id
        LOOP
            PERFORM anklang_void_approvals(of_tenant, ARRAY[hit.phase_id],
                'the contract ' || hit.number || ' has come to another brand');
            UPDATE launch_approval SET brands = brands || hit.brands
            WHERE tenant_id = of_tenant AND phase_id = hit.phase_id;
        END LOOP;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER contract_voids_approvals AFTER UPDATE ON contract
    REFERENCING OLD TABLE AS was NEW TABLE AS is_now
    FOR EACH STATEMENT EXECUTE FUNCTION contract_voids_approvals();

-- The phase's own facts. Its row is locked by whoever changes it and by whoever approves it.
CREATE FUNCTION phase_voids_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT NEW.unapproved AND EXISTS (
        SELECT FROM launch_approval WHERE tenant_id = NEW.tenant_id AND phase_id = NEW.id) THEN
        IF NEW.state <> 'launching'
           AND NOT anklang_is_unsent(NEW.tenant_id, NEW.id, NEW.offer_valid_until) THEN
            RETURN NEW;
        END IF;
        INSERT INTO launch_decision (tenant_id, phase_id, kind, decided_by, remark)
        VALUES (NEW.tenant_id, NEW.id, 'voided', anklang_caller(), 'the phase has changed');
        NEW.unapproved := true;
        NEW.state := 'awaiting_approval';
    ELSIF NEW.state IN ('active', 'completed') THEN
        RETURN NEW;
    END IF;
    NEW.changed_by := anklang_and_caller(NEW.changed_by);
    RETURN NEW;
END
$$;
CREATE TRIGGER phase_voids_approval BEFORE UPDATE ON phase
    FOR EACH ROW WHEN (NEW.state IN ('planned', 'launching', 'awaiting_approval', 'active', 'completed')
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
