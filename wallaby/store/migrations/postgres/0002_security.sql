CREATE TABLE wallaby.tokens (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    salt bytea NOT NULL,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE UNIQUE INDEX tokens_by_live_name ON wallaby.tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE wallaby.secrets (
    name text COLLATE "C" PRIMARY KEY,
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL
);

CREATE TABLE wallaby.calls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    principal text NOT NULL,
    role text,
    kind text NOT NULL CHECK (kind IN ('change', 'read', 'refused')),
    method text NOT NULL,
    flow_id text NOT NULL,
    code text NOT NULL,
    request_id text NOT NULL
);

CREATE INDEX calls_by_kind ON wallaby.calls (kind, id);

CREATE TABLE wallaby.requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal text NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (principal, request_id)
);
