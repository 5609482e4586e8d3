-- The key of a vehicle that content keys are sealed to, hexadecimal; NULL until it has told one.
ALTER TABLE vehicles ADD COLUMN encryption_key TEXT;

-- The keys of encrypted bundles, by the SHA-256 of the encrypted bytes, sealed to a key of the key folder: this file alone opens nothing.
CREATE TABLE content_keys (
    bundle_sha256 TEXT PRIMARY KEY,
    sealed        TEXT NOT NULL,
    added_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
