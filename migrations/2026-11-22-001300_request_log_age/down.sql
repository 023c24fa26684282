DROP INDEX request_log_age;
