ALTER TABLE flows ADD COLUMN copies_wanted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flows ADD COLUMN copies_begun INTEGER NOT NULL DEFAULT 0;

CREATE TABLE table_copies (
    flow_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    table_schema TEXT NOT NULL,
    table_name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'copying', 'copied')),
    epoch INTEGER NOT NULL,
    snapshot_lsn TEXT NOT NULL,
    estimated_rows INTEGER NOT NULL,
    estimated_bytes INTEGER NOT NULL,
    copied_rows INTEGER NOT NULL,
    copied_bytes INTEGER NOT NULL,
    started_at TEXT,
    updated_at TEXT,
    finished_at TEXT,
    PRIMARY KEY (flow_id, number)
) STRICT;
