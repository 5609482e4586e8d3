-- What is forgotten by its age is found without reading all of it.
CREATE INDEX reports_by_age ON reports (received_at);
CREATE INDEX failures_by_age ON events (at) WHERE kind = 'vehicle_failed';
