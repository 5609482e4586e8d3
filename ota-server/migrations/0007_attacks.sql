-- What vehicles report as attacks, by vehicle; and everything that vehicles brought about, by age.
CREATE INDEX attacks_of_vehicle ON events (vehicle_id, event_id) WHERE kind = 'attack_reported';
DROP INDEX failures_by_age;
CREATE INDEX vehicle_events_by_age ON events (at) WHERE kind IN ('vehicle_failed', 'secondary_trouble', 'attack_reported');
