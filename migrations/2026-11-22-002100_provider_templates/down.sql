-- Without them these have no content.
DELETE FROM template WHERE provider_template <> '';
ALTER TABLE template
    DROP COLUMN provider_template,
    DROP COLUMN provider_variables;
