CREATE TABLE ddl_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow_id TEXT NOT NULL,
    ddl TEXT NOT NULL,
    plan_json TEXT NOT NULL,
    position TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'applied')),
    created_at TEXT NOT NULL,
    decided_at TEXT,
    UNIQUE (flow_id, position)
) STRICT;

CREATE INDEX ddl_events_by_status ON ddl_events (status, id);
