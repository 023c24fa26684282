ALTER TABLE template
    DROP COLUMN provider_template,
    DROP COLUMN provider_variables;
