ALTER TABLE contact_attempt DROP COLUMN claimed_at;
DROP TRIGGER planned_contact_deleted ON planned_contact;
DROP FUNCTION planned_contact_deleted();
DROP TABLE planned_contact_gone;
DROP TRIGGER planned_contact_written ON planned_contact;
DROP FUNCTION planned_contact_written();
DROP INDEX planned_contact_changed;
ALTER TABLE planned_contact DROP COLUMN ordered_outside, DROP COLUMN claimed_at,
    DROP COLUMN changed_in;
