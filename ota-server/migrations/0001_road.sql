-- Times are seconds since 1970-01-01 (UTC), hashes and signed documents are bytes as they were received or sent.

CREATE TABLE vehicles (
    vehicle_id        TEXT PRIMARY KEY,
    tenant            TEXT NOT NULL,
    tier              TEXT NOT NULL,
    hardware_id       TEXT NOT NULL,
    model_line        TEXT NOT NULL,
    region            TEXT NOT NULL,
    ecu_serial        TEXT NOT NULL UNIQUE,
    public_key        TEXT NOT NULL,
    sdk_version       TEXT NOT NULL,
    enrolled_at       INTEGER NOT NULL,
    last_seen         INTEGER NOT NULL,
    -- Counter of the last accepted vehicle version manifest; a lower or equal one is a replay.
    report_counter    INTEGER NOT NULL DEFAULT 0,
    installed         TEXT,
    confirmed_counter INTEGER NOT NULL DEFAULT 0,
    -- What the Director last signed for this vehicle; NULL before its first request.
    held              TEXT
) STRICT;

CREATE TABLE enrollment_tokens (
    token_sha256 BLOB PRIMARY KEY,
    vehicle_id   TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    tier         TEXT NOT NULL,
    hardware_id  TEXT NOT NULL,
    model_line   TEXT NOT NULL,
    region       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    used_at      INTEGER
) STRICT;

-- Every signed vehicle version manifest, as evidence.
CREATE TABLE reports (
    report_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    vehicle_id  TEXT NOT NULL REFERENCES vehicles (vehicle_id),
    counter     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body        BLOB NOT NULL,
    UNIQUE (vehicle_id, counter)
) STRICT;

CREATE TABLE rollouts (
    rollout_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    model         TEXT NOT NULL,
    version       TEXT NOT NULL,
    selector      TEXT NOT NULL,
    waves         TEXT NOT NULL,
    failure_limit TEXT NOT NULL,
    salt          TEXT NOT NULL,
    state         TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    -- Outcomes count for the gate within one epoch; resuming opens the next one.
    gate_epoch    INTEGER NOT NULL DEFAULT 0,
    confirmed     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0
) STRICT;

-- How far each vehicle came with a rollout that was offered to it. No row says who belongs to a wave: that is computed.
CREATE TABLE outcomes (
    rollout_id    INTEGER NOT NULL REFERENCES rollouts (rollout_id),
    vehicle_id    TEXT NOT NULL REFERENCES vehicles (vehicle_id),
    stage         TEXT NOT NULL,
    reason_number INTEGER,
    reason_name   TEXT,
    reason_text   TEXT,
    updated_at    INTEGER NOT NULL,
    -- In which epoch the outcome was counted for the gate, and as what.
    counted_epoch INTEGER,
    counted_as    TEXT,
    PRIMARY KEY (rollout_id, vehicle_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    approval_id INTEGER PRIMARY KEY AUTOINCREMENT,
    model       TEXT NOT NULL,
    version     TEXT NOT NULL,
    region      TEXT NOT NULL,
    model_lines TEXT NOT NULL,
    authority   TEXT NOT NULL,
    number      TEXT NOT NULL,
    valid_from  INTEGER NOT NULL,
    valid_until INTEGER,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;

-- What people and gates decided, in order.
CREATE TABLE events (
    event_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    rollout_id INTEGER,
    vehicle_id TEXT,
    text       TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_rollout ON events (rollout_id, event_id);

-- The Image repository's metadata, every version.
CREATE TABLE image_metadata (
    role     TEXT NOT NULL,
    version  INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (role, version)
) STRICT;

CREATE TABLE director_roots (
    version  INTEGER PRIMARY KEY,
    bytes    BLOB NOT NULL,
    added_at INTEGER NOT NULL
) STRICT;

-- The last two versions of what the Director signed for each vehicle: a vehicle may be between two requests when one is replaced.
CREATE TABLE director_metadata (
    vehicle_id TEXT NOT NULL REFERENCES vehicles (vehicle_id),
    role       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    bytes      BLOB NOT NULL,
    PRIMARY KEY (vehicle_id, role, version)
) STRICT;
