ALTER TABLE winback_mailing DROP COLUMN launched_by;
ALTER TABLE approval_policy DROP COLUMN window_hours;
