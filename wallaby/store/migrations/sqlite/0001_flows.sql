CREATE TABLE flows (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    spec_version INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('created', 'running', 'paused', 'stopping', 'stopped', 'failed')),
    run_once INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE flow_state_events (
    id INTEGER PRIMARY KEY,
    flow_id TEXT NOT NULL,
    command TEXT,
    from_state TEXT,
    to_state TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE INDEX flow_state_events_by_flow ON flow_state_events (flow_id, id);

CREATE TABLE checkpoints (
    flow_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    position TEXT NOT NULL,
    lanes TEXT NOT NULL,
    committed_epoch INTEGER,
    committed_at TEXT,
    source_identity TEXT,
    snapshot_status TEXT CHECK (snapshot_status IN ('pending', 'copying', 'done')),
    snapshot_epoch INTEGER,
    snapshot_slot TEXT,
    snapshot_consistent_point TEXT
) STRICT;

CREATE TABLE changes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
) STRICT;

INSERT INTO changes (id, version) VALUES (1, 0);
