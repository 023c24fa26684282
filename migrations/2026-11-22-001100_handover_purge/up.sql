-- An event goes with its last delivery, so nobody looks for old events any more: those of dead
-- deliveries were walked over each time. What interrupted purges have left goes here.
DELETE FROM handover_event e
WHERE NOT EXISTS (SELECT FROM handover_delivery d WHERE d.tenant_id = e.tenant_id AND d.event_id = e.id);
DROP INDEX handover_event_time;
