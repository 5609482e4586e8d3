-- Content that a vehicle gave up for good: it refuses it without a try, so that it is offered something else.
CREATE TABLE given_up (
    vehicle_id   TEXT NOT NULL REFERENCES vehicles (vehicle_id),
    index_sha256 TEXT NOT NULL,
    model        TEXT NOT NULL,
    version      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (vehicle_id, index_sha256)
) STRICT, WITHOUT ROWID;
