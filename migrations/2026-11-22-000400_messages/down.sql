DROP TABLE customer_event;
DROP TABLE message_attempt;
DROP TABLE message;
