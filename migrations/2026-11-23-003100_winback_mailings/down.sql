DROP INDEX winback_case_opened;
ALTER TABLE winback_mailing_member DROP COLUMN is_drawn;
ALTER TABLE winback_mailing
    DROP COLUMN drawn_at,
    DROP COLUMN tile,
    DROP COLUMN selection_id,
    DROP COLUMN selection_version,
    DROP COLUMN criteria,
    DROP COLUMN included,
    DROP COLUMN excluded;
