DROP TABLE winback_case_event, winback_case, winback_figure, winback_detection, winback_settings;
