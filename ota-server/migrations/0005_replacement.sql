-- Whether a token is for a vehicle that is known and lost its key, its store or its computer.
ALTER TABLE enrollment_tokens ADD COLUMN replaces INTEGER NOT NULL DEFAULT 0;
