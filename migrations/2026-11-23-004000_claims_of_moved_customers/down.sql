DROP FUNCTION anklang_has_customers;
DROP FUNCTION anklang_is_within;
DROP FUNCTION anklang_claim_units;
ALTER TABLE winback_case DROP COLUMN claim_units;
ALTER TABLE planned_contact DROP COLUMN claim_units;
