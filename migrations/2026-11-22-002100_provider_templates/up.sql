-- Messages whose content lies with the provider: its id, and its variables by name.
ALTER TABLE template
    ADD COLUMN provider_template  text NOT NULL DEFAULT '',
    ADD COLUMN provider_variables jsonb NOT NULL DEFAULT '{}';
