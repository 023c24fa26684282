DELETE FROM operation WHERE kind = 'DryRunLaunch';
DROP TABLE dry_run_candidate, dry_run;
