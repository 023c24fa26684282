-- What waits for an approval would go out without one: it is cancelled.
DROP TRIGGER phase_announces_approval ON phase;
DROP TRIGGER phase_voids_approval ON phase;
DROP TRIGGER contract_voids_approvals ON contract;
DROP TRIGGER outbound_voids_approvals ON outbound;
DROP TRIGGER contact_plan_voids_approvals ON contact_plan;
DROP TRIGGER new_channel_account_voids_approvals ON channel_account;
DROP TRIGGER channel_account_voids_approvals ON channel_account;
DROP TRIGGER channel_route_voids_approvals ON channel_route;
DROP TRIGGER product_version_voids_approvals ON product_version;
DROP TRIGGER product_voids_approvals ON product;
DROP TRIGGER brand_voids_approvals ON brand;
DROP TRIGGER template_voids_approvals ON template;
DROP FUNCTION phase_announces_approval, phase_voids_approval, contract_voids_approvals,
    outbound_voids_approvals, contact_plan_voids_approvals, channel_account_voids_approvals,
    channel_route_voids_approvals, product_version_voids_approvals, product_voids_approvals,
    brand_voids_approvals, template_voids_approvals, anklang_covered, anklang_accounts, anklang_follow_ups,
    anklang_void_approvals, anklang_and_caller, anklang_caller, anklang_share_approvals, anklang_is_unsent;
DROP TABLE launch_decision, launch_approval, approval_policy;
UPDATE operation o SET cancel_requested = true, run_at = least(o.run_at, now())
FROM phase p
WHERE p.unapproved AND p.state IN ('launching', 'awaiting_approval')
  AND o.tenant_id = p.tenant_id AND o.id = p.operation_id AND o.state IN ('queued', 'running');
UPDATE phase SET state = 'cancelled', paused = false, winding_up = true
WHERE unapproved AND state IN ('launching', 'awaiting_approval');
ALTER TABLE phase
    DROP CONSTRAINT phase_state_check,
    ADD CONSTRAINT phase_state_check
        CHECK (state IN ('planned', 'launching', 'active', 'completed', 'failed', 'cancelled')),
    DROP COLUMN launched_by,
    DROP COLUMN changed_by,
    DROP COLUMN unapproved;
