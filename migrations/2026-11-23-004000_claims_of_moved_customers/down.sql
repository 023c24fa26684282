DROP TRIGGER end_claims ON customer;
DROP FUNCTION anklang_end_claims;
DROP TRIGGER claimed ON winback_case;
DROP TRIGGER claimed ON planned_contact;
DROP FUNCTION anklang_claimed;
ALTER TABLE winback_case DROP COLUMN claim_bound;
ALTER TABLE planned_contact DROP COLUMN claim_bound;
