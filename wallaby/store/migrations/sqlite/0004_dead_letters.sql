CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    lane INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    table_schema TEXT NOT NULL,
    table_name TEXT NOT NULL,
    position TEXT NOT NULL,
    upto TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    op TEXT NOT NULL,
    keys TEXT,
    error TEXT NOT NULL,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'replaying', 'replayed', 'discarded')),
    decision INTEGER,
    created_at TEXT NOT NULL,
    decided_at TEXT,
    key_id TEXT NOT NULL,
    sealed BLOB,
    sealed_bytes INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_by_lane ON dead_letters (flow_id, destination, lane, state, id);
CREATE INDEX dead_letters_by_decision ON dead_letters (flow_id, decision);
