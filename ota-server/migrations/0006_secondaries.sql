-- The vehicles' other ECUs, as their Primaries enrolled them. The Primary is in the vehicle's own row.
CREATE TABLE secondaries (
    ecu_serial     TEXT PRIMARY KEY,
    vehicle_id     TEXT NOT NULL REFERENCES vehicles (vehicle_id),
    hardware_id    TEXT NOT NULL,
    public_key     TEXT NOT NULL,
    -- Counter of its last accepted report; a lower or equal one is a replay.
    report_counter INTEGER NOT NULL DEFAULT 0,
    installed      TEXT,
    -- Why it refused an image, or gave no report, by the last manifest.
    trouble        TEXT
) STRICT;

CREATE INDEX secondaries_of_vehicle ON secondaries (vehicle_id);
