-- Old rows are removed by their age.
CREATE INDEX request_log_age ON request_log (tenant_id, created_at);
