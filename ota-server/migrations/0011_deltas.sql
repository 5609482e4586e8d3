-- Deltas that lie among the targets: by the chunk index of the release that they restore and of the one that they start from.
CREATE TABLE deltas (
    release_sha256 TEXT NOT NULL,
    base_sha256    TEXT NOT NULL,
    path           TEXT NOT NULL,
    length         INTEGER NOT NULL,
    sha256         TEXT NOT NULL,
    added_at       INTEGER NOT NULL,
    PRIMARY KEY (release_sha256, base_sha256)
) STRICT, WITHOUT ROWID;
