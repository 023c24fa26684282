DROP INDEX winback_case_opened;
ALTER TABLE winback_mailing
    DROP COLUMN tile,
    DROP COLUMN selection_id,
    DROP COLUMN selection_version,
    DROP COLUMN criteria,
    DROP COLUMN included,
    DROP COLUMN excluded;
