-- Reports that were refused stand beside the attacks that vehicles report, and are forgotten like all that vehicles brought about.
DROP INDEX attacks_of_vehicle;
CREATE INDEX attacks_of_vehicle ON events (vehicle_id, event_id) WHERE kind IN ('attack_reported', 'report_refused');
DROP INDEX vehicle_events_by_age;
CREATE INDEX vehicle_events_by_age ON events (at)
    WHERE kind IN ('vehicle_failed', 'secondary_trouble', 'attack_reported', 'report_refused');
