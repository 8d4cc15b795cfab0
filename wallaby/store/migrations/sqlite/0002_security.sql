CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    salt BLOB NOT NULL,
    digest BLOB NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT
) STRICT;

CREATE UNIQUE INDEX tokens_by_live_name ON tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    updated_at TEXT NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    principal TEXT NOT NULL,
    role TEXT,
    kind TEXT NOT NULL CHECK (kind IN ('change', 'read', 'refused')),
    method TEXT NOT NULL,
    flow_id TEXT NOT NULL,
    code TEXT NOT NULL,
    request_id TEXT NOT NULL
) STRICT;

CREATE INDEX calls_by_kind ON calls (kind, id);

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    principal TEXT NOT NULL,
    request_id TEXT NOT NULL,
    method TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    at TEXT NOT NULL,
    UNIQUE (principal, request_id)
) STRICT;
