DROP TABLE server_key;
DROP TABLE handover_delivery;
DROP TABLE handover_event;
DROP TABLE webhook_secret;
DROP TABLE webhook;
