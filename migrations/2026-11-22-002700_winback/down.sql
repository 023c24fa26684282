DROP TABLE winback_case_event;
DROP TABLE winback_case;
DROP TABLE winback_figure;
DROP TABLE winback_detection;
DROP TABLE winback_settings;
