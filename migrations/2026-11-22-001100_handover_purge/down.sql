CREATE INDEX handover_event_time ON handover_event (tenant_id, occurred_at);
