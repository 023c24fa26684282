ALTER TABLE selection DROP COLUMN org_unit_code, DROP COLUMN shared_with;
DROP TABLE org_unit;
