DROP TRIGGER campaign_voids_approvals ON campaign;
DROP FUNCTION campaign_voids_approvals();
