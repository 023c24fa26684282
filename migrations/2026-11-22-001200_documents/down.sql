DROP TABLE bundle_file;
DROP TABLE bundle;
ALTER TABLE offer DROP COLUMN document_failures;
ALTER TABLE document
    DROP COLUMN print_page,
    DROP COLUMN print_file,
    DROP COLUMN standard;
DELETE FROM operation WHERE kind = 'MakeBundle';
