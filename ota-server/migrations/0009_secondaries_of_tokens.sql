-- The Secondaries that a vehicle must have which uses the token, as a JSON list; NULL when nobody said.
ALTER TABLE enrollment_tokens ADD COLUMN secondaries TEXT;

-- What a vehicle has brought about, newest first: so that it cannot bring about more than it can have to say.
CREATE INDEX events_of_vehicle ON events (vehicle_id, event_id)
    WHERE kind IN ('vehicle_failed', 'secondary_trouble', 'attack_reported');
