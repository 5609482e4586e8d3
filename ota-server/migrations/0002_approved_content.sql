-- The chunk indexes that an authority's decision is about, as JSON. An approval without any lets nothing through.
ALTER TABLE approvals ADD COLUMN contents TEXT NOT NULL DEFAULT '[]';
