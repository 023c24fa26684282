-- changed_in: the transaction that wrote the contact last, for those who watch. A sequence or a time would
-- lose what commits late; whether a snapshot has seen a transaction is known for sure. One number, the
-- top-level transaction's, stands for all rows of a statement, so that the index has one key for them.
-- claimed_at: since when its person has it. ordered_outside: an order was taken under the claim, the outcome is
-- to come; whether that was outside of the window.
ALTER TABLE planned_contact
    ADD COLUMN changed_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN claimed_at timestamptz,
    ADD COLUMN ordered_outside boolean;
CREATE INDEX planned_contact_changed ON planned_contact (tenant_id, changed_in, id);

CREATE FUNCTION planned_contact_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    IF NEW.claim_id IS DISTINCT FROM OLD.claim_id THEN
        IF NEW.claim_id IS NULL THEN
            NEW.claimed_at := NULL;
            NEW.ordered_outside := NULL;
        -- Who lost the claim with their screen, and claims again, has it all the time.
        ELSIF OLD.claim_id IS NULL OR NEW.claimed_by IS DISTINCT FROM OLD.claimed_by THEN
            NEW.claimed_at := now();
        END IF;
    END IF;
    RETURN NEW;
END $$;
-- Rows that are inserted have the default.
CREATE TRIGGER planned_contact_written BEFORE UPDATE ON planned_contact
    FOR EACH ROW EXECUTE FUNCTION planned_contact_written();

-- Contacts that are gone, for those who watch; kept for two days. No foreign keys: a million of them
-- may go at once, and nothing depends on these rows.
CREATE TABLE planned_contact_gone (
    tenant_id  uuid NOT NULL,
    changed_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id         uuid NOT NULL,
    gone_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, changed_in, id)
);
SELECT anklang_secure('planned_contact_gone');

CREATE FUNCTION planned_contact_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO planned_contact_gone (tenant_id, id) SELECT tenant_id, id FROM gone;
    RETURN NULL;
END $$;
CREATE TRIGGER planned_contact_deleted AFTER DELETE ON planned_contact
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION planned_contact_deleted();

-- Since when the person who made an attempt had the contact.
ALTER TABLE contact_attempt ADD COLUMN claimed_at timestamptz;
