-- A campaign can get another name, which those who approve its launches are shown and its mails may bear: approvals of
-- what its phases have left to send are void then, as of a phase that gets another name.
CREATE FUNCTION campaign_voids_approvals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM anklang_share_approvals(NEW.tenant_id);
    PERFORM anklang_void_approvals(NEW.tenant_id, ARRAY(
        SELECT o.phase_id FROM anklang_covered(NEW.tenant_id) o
        JOIN phase p ON p.tenant_id = NEW.tenant_id AND p.id = o.phase_id
        WHERE p.campaign_id = NEW.id),
        'the campaign has another name');
    RETURN NULL;
END
$$;
CREATE TRIGGER campaign_voids_approvals AFTER UPDATE ON campaign
    FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name)
    EXECUTE FUNCTION campaign_voids_approvals();
